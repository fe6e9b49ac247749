//! What the documentation lists, compared with what the code has.
//! In: the tables between two markers in README.md and docs/ARCHITECTURE.md. Out: nothing, or the table as it should be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clickstamp::config::VARIABLES;

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between `<!-- name -->` and `<!-- /name -->`.
fn between_markers(text: &str, name: &str) -> String {
    let after = text.split_once(&format!("<!-- {name} -->")).map(|(_, after)| after);
    let inside = after.and_then(|after| after.split_once(&format!("<!-- /{name} -->")));
    inside.unwrap_or_else(|| panic!("no markers of {name}")).0.trim().to_owned()
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
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
fn the_architecture_lists_every_route() {
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
    // The demo's pretend pages are no doors of the server.
    for path in files.iter().filter(|path| !path.starts_with(source.join("demo"))) {
        let text = read(path);
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let is_api = path.components().any(|part| part.as_os_str() == "api");
        for route in code.split(".route(\"").skip(1) {
            let (at, rest) = route.split_once('"').expect("a route's path ends");
            // Up to the next route or the end of the statement.
            let rest = rest.split([';', '\n']).next().unwrap_or_default();
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
