//! Compares the documentation with the code: lists between two markers in docs/, links and anchors,
//! names of files and functions, labels of pages, and the length of lines. Takes the files as they
//! are; returns nothing, or what is wrong and how a list should be. Guarantees that a list that a
//! program can check does not drift.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clickstamp::config::VARIABLES;
use clickstamp::stripe::EVENT_TYPES;
use serde_json::{Value, json};

use crate::command;
use crate::harness::{Session, TestApp};

/// The longest line of Markdown outside of tables, in characters.
const MAX_LINE: usize = 120;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text between `<!-- name -->` and `<!-- /name -->`.
fn between_markers(text: &str, name: &str) -> String {
    let after = text.split_once(&format!("<!-- {name} -->")).map(|(_, after)| after);
    let inside = after.and_then(|after| after.split_once(&format!("<!-- /{name} -->")));
    inside.unwrap_or_else(|| panic!("no markers of {name}")).0.trim().to_owned()
}

#[test]
fn the_reference_lists_every_setting_with_its_default() {
    let mut expected = String::from("| variable | default | meaning |\n|---|---|---|");
    for variable in VARIABLES {
        let default = match variable.default {
            "" => "–".to_owned(),
            text => format!("`{text}`"),
        };
        let secret = if variable.is_secret { " (secret)" } else { "" };
        expected.push_str(&format!(
            "\n| `{}` | {default} | {}{secret} |",
            variable.name, variable.meaning
        ));
    }
    let found = between_markers(&read("docs/reference.md"), "settings");
    assert!(found == expected, "docs/reference.md: the settings should be:\n\n{expected}\n");
}

#[test]
fn the_reference_lists_every_route() {
    let listed = between_markers(&read("docs/reference.md"), "routes");
    let rows = listed.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let listed: BTreeMap<String, String> = rows
        .map(|(path, rest)| {
            (path.to_owned(), rest.split(" |").next().unwrap_or_default().to_owned())
        })
        .collect();
    assert_eq!(listed, routes(), "left: the table of docs/reference.md; right: the code");
}

/// Path → methods, as the source mounts them.
fn routes() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    rust_files(&source, &mut files);
    let mut found = BTreeMap::new();
    // The demo's simulated services are not routes of the server.
    for path in files.iter().filter(|path| !path.starts_with(source.join("demo"))) {
        let text = read(path);
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let is_api = path.components().any(|part| part.as_os_str() == "api");
        for route in code.split(".route(").skip(1) {
            let Some((at, rest)) =
                route.trim_start().strip_prefix('"').and_then(|it| it.split_once('"'))
            else {
                continue;
            };
            let rest = &rest[..end_of_arguments(rest)];
            let methods = ["get", "post", "options"]
                .into_iter()
                .filter(|method| rest.contains(&format!("{method}(")));
            let methods: Vec<String> = methods.map(str::to_uppercase).collect();
            if !methods.is_empty() {
                let prefix = if is_api { "/api/v1" } else { "" };
                found.insert(format!("{prefix}{at}"), methods.join(", "));
            }
        }
    }
    found
}

/// Length of the text up to the parenthesis that closes an open one.
fn end_of_arguments(text: &str) -> usize {
    let mut depth = 1;
    let end = text.find(|character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        depth == 0
    });
    end.unwrap_or(text.len())
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What the first cells of a list's rows have in backticks, each up to its first blank.
fn listed(file: &str, name: &str) -> BTreeSet<String> {
    let inside = between_markers(&read(file), name);
    let rows = inside.lines().filter_map(|line| {
        line.strip_prefix("| `").or_else(|| line.strip_prefix("- `"))?.split('`').next()
    });
    rows.map(|row| row.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn texts(values: &Value) -> BTreeSet<String> {
    let values = values.as_array().expect("a list").iter();
    values.map(|value| value.as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn the_reference_lists_every_command() {
    let (_, help) = command::run(&["help"], &[], "").await;
    let (_, commands) = help.split_once("Commands:").expect("a list of commands");
    let (commands, _) = commands.split_once("Options:").expect("its end");
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: BTreeSet<String> =
        names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect();
    assert!(names.contains("serve"), "{help}");
    assert_eq!(listed("docs/reference.md", "commands"), names);
}

#[tokio::test]
async fn the_reference_lists_every_word_and_parameter_of_the_api() {
    let app = TestApp::start().await;
    let schema = app.get("/api/v1/openapi.json").await.json();
    for (list, name) in [
        ("statuses", "ConversionStatus"),
        ("match-rules", "MatchRule"),
        ("unmatched-reasons", "UnmatchedReason"),
        ("delivery-states", "DeliveryState"),
        ("delivery-reasons", "DeliveryReason"),
        ("event-states", "EventState"),
    ] {
        let words = texts(&schema["components"]["schemas"][name]["enum"]);
        assert_eq!(listed("docs/reference.md", list), words, "{list}");
    }
    let of_path = |(path, methods): (&String, &Value)| {
        let operation = methods.as_object().expect("methods").values().next().expect("one");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let names = parameters.filter(|it| it["in"] == "query");
        let names = names.map(|it| it["name"].as_str().expect("a name").to_owned());
        (path.clone(), names.collect::<Vec<_>>())
    };
    let served: BTreeMap<String, Vec<String>> =
        schema["paths"].as_object().expect("paths").iter().map(of_path).collect();
    let inside = between_markers(&read("docs/reference.md"), "api");
    let rows = inside.lines().filter_map(|line| line.strip_prefix("| `/")?.split_once('`'));
    let rows: BTreeMap<String, Vec<String>> = rows
        .map(|(path, rest)| (format!("/{path}"), backticked(rest).map(str::to_owned).collect()))
        .collect();
    assert_eq!(rows, served);
}

#[tokio::test]
async fn the_reference_lists_every_metric() {
    let mut app = TestApp::start_with(&[("CLICKSTAMP_METRICS", "true")]).await;
    app.leave_things_undone();
    let click_id = app.visit("https://www.shop.localhost/").await;
    app.anytrack.answers([500]);
    let paid = Session::paid("cs_live_1").reference(&click_id).with(json!({"livemode": true}));
    app.stripe_processed(&paid.completed()).await;
    app.deliver_due().await;
    let token = ("authorization", "Bearer a-token-for-tests");
    let reply = app.send("GET", "/metrics", &[token], "").await;
    let samples = reply.text();
    let samples = samples.lines().filter(|line| !line.starts_with('#'));
    let names: BTreeSet<&str> =
        samples.map(|line| line.split(['{', ' ']).next().unwrap_or_default()).collect();
    let rows = listed("docs/reference.md", "metrics");
    let rows: BTreeSet<&str> =
        rows.iter().map(|row| row.split('{').next().unwrap_or_default()).collect();
    assert_eq!(rows, names);
}

#[test]
fn the_architecture_lists_every_module() {
    let library = read("src/lib.rs");
    let modules = library.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    let modules: BTreeSet<String> = modules.collect();
    let inside = between_markers(&read("docs/ARCHITECTURE.md"), "modules");
    let first_cells = inside.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let listed: BTreeSet<String> = first_cells.flat_map(backticked).map(str::to_owned).collect();
    assert_eq!(listed, modules);
}

#[test]
fn connect_stripe_lists_every_event_type() {
    let types = EVENT_TYPES.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(listed("docs/connect-stripe.md", "event-types"), types);
}

/// `EVENT_TYPES`, the reader and the sentences of events are three lists of the same types.
#[test]
fn every_event_type_that_is_read_is_in_every_list() {
    let types: BTreeSet<&str> = EVENT_TYPES.into_iter().collect();
    let reader = read("src/stripe/event/mod.rs");
    let (_, reader) = reader.split_once("fn read_object").expect("the reader");
    let (reader, _) = reader.split_once("mod tests").expect("its end");
    assert_eq!(event_types_in(reader), types, "left: read_object; right: EVENT_TYPES");
    let summary = read("src/stripe/event/summary.rs");
    let sentences = event_types_in(&summary);
    let shares = |kind: &&&str| kind.starts_with("charge.dispute.");
    let silent: Vec<_> =
        types.iter().filter(|kind| !sentences.contains(**kind) && !shares(kind)).collect();
    assert!(silent.is_empty(), "src/stripe/event/summary.rs has no sentence for {silent:?}");
}

/// The string literals that look like `invoice.paid`.
fn event_types_in(source: &str) -> BTreeSet<&str> {
    let literals = source.split('"').skip(1).step_by(2);
    let is_type = |text: &&str| {
        text.contains('.') && text.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c))
    };
    literals.filter(is_type).collect()
}

/// The paths of README.md, CHANGELOG.md and docs/*.md, with their texts.
fn markdown() -> Vec<(String, String)> {
    let mut paths = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("docs");
    for entry in docs {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            paths.push(format!("docs/{name}"));
        }
    }
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// The lines outside of code blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let (mut lines, mut is_code) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code && !line.starts_with("    ") {
            lines.push((number, line));
        }
    }
    lines
}

/// The texts in backticks.
fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The anchors of a file's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then(|| heading.trim().to_lowercase())
    });
    let keeps = |char: &char| char.is_alphanumeric() || "-_ ".contains(*char);
    headings
        .map(|heading| heading.chars().filter(keeps).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn links_and_anchors_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for (path, text) in markdown() {
        for (number, line) in prose(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.starts_with("https://") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => root.join(&path),
                    file => root.join(&path).parent().expect("a directory").join(file),
                };
                let has_anchor = anchor.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).contains(anchor));
                if !target.exists() || !has_anchor {
                    broken.push(format!("{path}:{number}: {link} does not exist"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn lines_outside_of_tables_are_short() {
    let mut broken = Vec::new();
    for (path, text) in markdown() {
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > MAX_LINE && !line.starts_with('|') {
                broken.push(format!("{path}:{number}: longer than {MAX_LINE} characters"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A file in backticks exists, and names in backticks after it occur in it:
/// `src/visit/mod.rs` (`record`), or (`src/visit/mod.rs`, `record`).
#[test]
fn named_files_and_functions_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directories = ["src/", "tests/", "templates/", "migrations/", "static/", "docs/"];
    let is_path = |text: &str| directories.iter().any(|start| text.starts_with(start));
    let mut broken = Vec::new();
    for (path, text) in markdown() {
        // A name may be on the line after its file.
        let one_line = text.replace('\n', " ");
        let parts: Vec<&str> = one_line.split('`').collect();
        for (at, file) in parts.iter().enumerate().skip(1).step_by(2) {
            if !is_path(file) || file.contains(['*', '{', ' ', '…']) {
                continue;
            }
            let Ok(found) = fs::metadata(root.join(file)) else {
                broken.push(format!("{path}: {file} does not exist"));
                continue;
            };
            if found.is_dir() {
                continue;
            }
            let source = read(file);
            let separated =
                |at: usize| parts.get(at).is_some_and(|it| ["(", ","].contains(&it.trim()));
            let names = (at + 2..parts.len()).step_by(2).take_while(|at| separated(at - 1));
            for name in names.map(|at| parts[at]).take_while(|name| !is_path(name)) {
                let name = name.rsplit("::").next().unwrap_or_default();
                if !source.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == name) {
                    broken.push(format!("{path}: {file} has no {name}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Bold text in the guides for users is a label of a page, such as a button.
#[test]
fn labels_of_pages_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = String::new();
    for entry in fs::read_dir(root.join("templates")).expect("templates") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            pages.push_str(&fs::read_to_string(path).expect("text"));
        }
    }
    let mut files = Vec::new();
    rust_files(&root.join("src/dashboard"), &mut files);
    rust_files(&root.join("src/destination"), &mut files);
    pages.extend(files.iter().map(read));
    let mut broken = Vec::new();
    for (path, text) in markdown() {
        if !path.starts_with("docs/") || path.contains(|c: char| c.is_uppercase()) {
            continue;
        }
        // A label may go over two lines.
        let lines: Vec<&str> = prose(&text).into_iter().map(|(_, line)| line.trim()).collect();
        for label in lines.join(" ").split("**").skip(1).step_by(2) {
            if !pages.contains(label) {
                broken.push(format!("{path}: no page has the label “{label}”"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
