//! The rules of the architecture, checked in the source: which module may import which, where a
//! crate may be used, which module writes a table, and that no files of a module import each other.
//! Reads `src/` and `migrations/`; fails with a list of file, line and rule.
//! An exception to a rule is made by changing a table below, so it is visible in the diff.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The base layer: it imports no feature module. Every module may import it, except that `error` is
/// about HTTP and only for handlers.
const GROUND: &[&str] = &[
    "clock", "config", "domain", "error", "failpoint", "hosts", "ids", "json", "limit", "money",
    "outbound", "store",
];

/// What a module may import besides the base layer. A module that is not listed may import nothing
/// else.
const IMPORTS: &[(&str, &[&str])] = &[
    // Shared by handlers. `settings` has the records that every module reads.
    ("state", &["settings"]),
    ("client", &["state"]),
    ("server", &["client"]),
    // The flow from page to destination: imports point down, and `conversion` also imports `visit`,
    // because matching needs visits.
    ("tag", &["visit", "settings", "state", "client"]),
    ("redirect", &["visit", "settings", "state", "client"]),
    ("visit", &["settings", "state", "client"]),
    ("stripe", &["conversion", "settings", "state", "client"]),
    ("custom", &["conversion", "visit", "settings", "state", "client"]),
    (
        "conversion",
        &["visit", "registration", "delivery", "destination", "settings", "state", "client"],
    ),
    ("registration", &["visit", "destination", "settings"]),
    ("delivery", &["destination", "settings"]),
    ("destination", &["settings"]),
    // The read side. Its handlers also call public functions of other modules for their buttons
    // (retry, rerun).
    ("report", &["settings"]),
    ("alert", &["report", "destination", "settings"]),
    (
        "api",
        &[
            "report", "settings", "state", "client", "stripe", "conversion", "delivery",
            "destination",
        ],
    ),
    (
        "dashboard",
        &[
            "report", "alert",
            // Setup shows the scripts' hashes, which only the tag knows.
            "tag", "visit", "settings", "state", "client", "stripe", "custom", "conversion",
            "delivery", "destination",
        ],
    ),
];

/// What modules of the base layer may import from each other.
const GROUND_IMPORTS: &[(&str, &[&str])] = &[
    ("ids", &["clock"]),
    ("limit", &["clock"]),
    ("store", &["clock", "ids", "money"]),
    ("domain", &["store"]),
];

/// Files that connect the modules: the application, and the subcommands.
const ABOVE_THE_MODULES: &[&str] = &["app", "main", "lib", "demo", "command"];

/// The module that owns a table; only it writes the table. `report` owns none.
const OWNERS: &[(&str, &[&str])] = &[
    (
        "settings",
        &[
            "settings", "settings_revision", "sites", "sources", "destinations",
            "destination_revisions", "links",
            // Dropped again by a later migration.
            "api_tokens",
        ],
    ),
    (
        "visit",
        &[
            "visits", "provisional_visits", "visit_counts", "visit_sums", "visit_notes",
            "visit_sessions", "page_events",
        ],
    ),
    (
        "stripe",
        &[
            "stripe_events", "stripe_rejections", "stripe_backfills", "stripe_reconciliations",
            "stripe_lookups", "replay_pairs", "then_events", "then_payments", "then_conversions",
            "then_touches", "then_objects",
        ],
    ),
    (
        "conversion",
        &[
            "payments", "subscriptions", "conversions", "abandoned", "duplicates",
            "manual_matches", "waits", "touches", "stripe_objects", "conversion_days",
            "conversion_sums",
        ],
    ),
    ("custom", &["custom_requests"]),
    // It has no table files: all of it is SQL. The last two are dropped again by a later migration.
    ("store", &["readiness", "ledgers", "conversion_sums_turn"]),
    ("registration", &["registrations"]),
    ("delivery", &["deliveries", "attempts", "breakers"]),
    ("alert", &["alert_targets", "alert_settings", "incidents", "alert_messages"]),
    ("dashboard", &["users", "sessions", "login_tries"]),
];

/// Tables that a module reads though another one owns them. `report` reads all: it is the read side.
const READERS: &[(&str, &[&str])] = &[
    // Matching is asking whether a visit, a note or an event is there. Rollups count the conversions
    // of pages apart.
    (
        "conversion",
        &[
            "page_events", "provisional_visits", "sites", "sources", "stripe_events",
            "visit_notes", "visit_sessions", "visits",
        ],
    ),
    ("registration", &["visit_notes", "visits"]),
    // Comparing and rebuilding the ledger.
    ("stripe", &["conversions", "payments", "sources", "stripe_objects", "touches"]),
];

/// Directories and modules whose files import each other in a circle, and why that may stay.
const CIRCLES: &[(&str, &str)] = &[
    ("dashboard/alerts", "its forms are parts of one page"),
    ("dashboard/destinations", "its pages share the page around them"),
    ("dashboard/journey", "its steps share the functions that format them"),
    ("dashboard/settings/custom", "a request is shown below its source"),
    ("dashboard/settings/source", "its two forms are on one page"),
    ("destination", "mail and requests share their TLS errors"),
    ("settings", "a change is begun by the module that reloads the settings"),
];

/// A word in the source, and the files in which it may be used.
struct Home {
    word: &'static str,
    is_home: fn(&File) -> bool,
    rule: &'static str,
}

const HOMES: &[Home] = &[
    Home {
        word: "sqlx",
        is_home: |file| file.is_in(&["store", "report"]) || file.is_table(),
        rule: "sqlx belongs in store, report and table files",
    },
    Home {
        word: "rusqlite",
        is_home: |file| file.is_in(&["store"]),
        rule: "rusqlite belongs in store",
    },
    Home {
        word: "reqwest",
        // The command reads users' pages, to which the rules for destinations do not apply.
        is_home: |file| {
            file.is_in(&["destination", "outbound"])
                || ["stripe/api.rs", "command/check/fetch.rs"].contains(&&*file.path)
        },
        rule: "reqwest belongs in outbound, destination, stripe/api and command/check/fetch",
    },
    Home {
        word: "lettre",
        is_home: |file| ["destination/mail.rs", "destination/tls.rs"].contains(&file.path.as_str()),
        rule: "lettre belongs in destination/mail and destination/tls",
    },
    Home {
        word: "dns_lookup",
        is_home: |file| file.path == "dashboard/setup/place.rs",
        rule: "dns_lookup belongs in dashboard/setup/place",
    },
    Home {
        word: "askama",
        // The demo's pretend pages are templates too.
        is_home: |file| file.is_in(&["dashboard", "demo"]),
        rule: "askama belongs in dashboard",
    },
    Home {
        word: "axum",
        // The demo serves pretend pages of its own.
        is_home: |file| {
            file.is_postback() || file.is_in(&["app", "server", "state", "client", "error", "demo"])
        },
        rule: "axum belongs in handlers, in app, server, state, client and error",
    },
    Home {
        word: "std::env",
        // The demo reads the directory for temporary files; a failpoint is not a setting, and not
        // part of a release.
        is_home: |file| file.is_in(&["config", "demo", "failpoint"]),
        rule: "only config reads the environment",
    },
    Home {
        word: "store.begin()",
        // If a change of the settings does not raise their revision, other copies of the program do
        // not notice it.
        is_home: |file| {
            !file.is_in(&["settings"])
                || ["settings/mod.rs", "settings/snapshot.rs", "settings/table/mod.rs"]
                    .contains(&&*file.path)
        },
        rule: "settings change through begin_change",
    },
    Home {
        word: "SystemTime",
        is_home: |file| file.is_in(&["clock"]),
        rule: "only clock reads the machine's time",
    },
    Home {
        word: "Instant::now",
        is_home: |file| file.is_in(&["clock"]),
        rule: "only clock reads the machine's time",
    },
    Home {
        word: "jiff::Timestamp::now",
        is_home: |file| file.is_in(&["clock"]),
        rule: "only clock reads the machine's time",
    },
    Home {
        word: "Zoned::now",
        is_home: |file| file.is_in(&["clock"]),
        rule: "only clock reads the machine's time",
    },
];

/// One source file, without its comments and tests; lines keep their numbers.
struct File {
    /// Path below `src/`.
    path: String,
    module: String,
    lines: Vec<String>,
}

impl File {
    fn is_in(&self, modules: &[&str]) -> bool {
        modules.contains(&self.module.as_str())
    }

    fn is_table(&self) -> bool {
        self.path.ends_with("/table.rs") || self.path.contains("/table/")
    }

    /// True for modules that consist of handlers, and for the endpoint files of other modules.
    fn is_postback(&self) -> bool {
        self.is_in(&["tag", "redirect", "api", "dashboard"]) || self.path.ends_with("/endpoint.rs")
    }

    /// Where it is in the tree of modules.
    fn module_path(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').map(str::to_owned).collect()
    }

    /// Its `use` statements, each with whether it is public, and everything else.
    fn statements(&self) -> (Vec<(String, bool)>, String) {
        let (mut uses, mut rest, mut lines) = (Vec::new(), String::new(), self.lines.iter());
        while let Some(line) = lines.next() {
            let trimmed = line.trim_start();
            let (start, tree) = trimmed.split_once("use ").unwrap_or((trimmed, ""));
            if tree.is_empty() || !(start.is_empty() || start.starts_with("pub")) {
                // A visibility names a module and depends on nothing.
                rest.push_str(&line.replace("pub(in ", "pub(in::"));
                rest.push('\n');
                continue;
            }
            let mut tree = tree.to_owned();
            while !tree.ends_with(';') {
                tree.push_str(lines.next().expect("a statement ends").trim());
            }
            uses.push((tree.trim_end_matches(';').to_owned(), !start.is_empty()));
        }
        (uses, rest)
    }

    /// All modules of the crate that are named here, with their lines.
    fn imports(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let depth = self.path.trim_end_matches("/mod.rs").split('/').count();
        let to_root = [String::from("crate::"), "super::".repeat(depth)];
        for (number, line) in numbered(&self.lines) {
            for start in &to_root {
                for (at, _) in line.match_indices(start.as_str()) {
                    let before = &line[..at];
                    if before.ends_with(|c: char| c.is_alphanumeric() || "_$:".contains(c)) {
                        continue;
                    }
                    // A group may span several lines.
                    let rest =
                        format!("{} {}", &line[at + start.len()..], self.lines[number..].join(" "));
                    found.extend(heads(&rest).into_iter().map(|head| (number, head)));
                }
            }
        }
        found.retain(|(_, head)| *head != self.module && !head.is_empty());
        found
    }

    /// Every name after `from` or `join`, with its line; `delete from` is no reading.
    fn read_names(&self) -> Vec<(usize, String)> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut found = Vec::new();
        let mut before = ["", ""];
        for (number, line) in numbered(&self.lines) {
            for word in line.split(|c| !is_word(c)).filter(|word| !word.is_empty()) {
                if matches!(before, [first, "from" | "join"] if first != "delete") {
                    found.push((number, word.to_owned()));
                }
                before = [before[1], word];
            }
        }
        found
    }

    /// All tables that are written here, with their lines: in SQL, by `insert_into`, and in the
    /// descriptions of the group-commit writer.
    fn written_tables(&self) -> Vec<(usize, String)> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_{}:".contains(c);
        let words: Vec<(usize, &str)> = numbered(&self.lines)
            .flat_map(|(number, line)| {
                line.split(move |c| !is_word(c)).filter(|w| !w.is_empty()).map(move |w| (number, w))
            })
            .collect();
        let mut found = Vec::new();
        for four in words.windows(4) {
            let [(number, first), (_, second), (_, third), (_, fourth)] = four else { continue };
            match (*first, *second) {
                ("insert", "into") | ("delete", "from") => {
                    found.push((*number, (*third).to_owned()))
                }
                // `update t set`, `update t x set`; not `do update set`.
                ("update", table) if table != "set" && (*third == "set" || *fourth == "set") => {
                    found.push((*number, table.to_owned()));
                }
                _ => {}
            }
        }
        for (number, line) in numbered(&self.lines) {
            for before in ["table: \"", "insert_into(\""] {
                if let Some((_, rest)) = line.split_once(before) {
                    found.push((number, rest.split('"').next().unwrap_or_default().to_owned()));
                }
            }
        }
        found
    }
}

/// The paths that `use` statements name and that expressions name, resolved to files: a name counts
/// for the file that defines it, not for the `mod.rs` that passes it on.
struct Paths<'a> {
    files: BTreeMap<Vec<String>, &'a File>,
    /// What each file imports, by name.
    imported: BTreeMap<&'a str, BTreeMap<String, Vec<String>>>,
}

impl<'a> Paths<'a> {
    fn of(files: &'a [File]) -> Self {
        let by_path = files.iter().map(|file| (file.module_path(), file)).collect();
        let mut paths = Self { files: by_path, imported: BTreeMap::new() };
        for file in files {
            let uses = file.statements().0.into_iter().flat_map(|(text, _)| expand(&text, &[]));
            let names = uses.filter_map(|(path, name)| Some((name, paths.absolute(file, &path)?)));
            let names = names.collect();
            paths.imported.insert(&file.path, names);
        }
        paths
    }

    /// A path from the root of the crate; `None` for a path into another crate.
    fn absolute(&self, file: &File, path: &[String]) -> Option<Vec<String>> {
        let mut from = file.module_path();
        let first = path.first()?.as_str();
        if first == "crate" {
            return Some(path[1..].to_vec());
        }
        let ups = path.iter().take_while(|part| matches!(part.as_str(), "self" | "super")).count();
        from.truncate(from.len() - path[..ups].iter().filter(|part| *part == "super").count());
        let child = [from.as_slice(), &path[..1]].concat();
        if ups > 0 || self.files.contains_key(&child) {
            return Some([from.as_slice(), &path[ups..]].concat());
        }
        let known = self.imported.get(file.path.as_str())?.get(first)?;
        Some([known.as_slice(), &path[1..]].concat())
    }

    /// The file that defines what a path names.
    fn file_of(&self, path: &[String], depth: usize) -> Option<&'a File> {
        let at = (1..=path.len()).rev().find(|at| self.files.contains_key(&path[..*at]))?;
        let file = self.files[&path[..at]];
        let passed_on = path.get(at).and_then(|name| self.imported[file.path.as_str()].get(name));
        match passed_on {
            Some(known) if depth < 9 => {
                self.file_of(&[known.as_slice(), &path[at + 1..]].concat(), depth + 1)
            }
            _ => Some(file),
        }
    }

    /// The other files of its module that a file names.
    fn neighbors(&self, file: &File) -> BTreeSet<&'a str> {
        let (uses, rest) = file.statements();
        // A `mod.rs` passes names of its files on to others; that alone is no dependency.
        let own =
            uses.iter().filter(|(_, is_public)| !is_public || !file.path.ends_with("/mod.rs"));
        let used = own.flat_map(|(text, _)| expand(text, &[])).map(|(path, _)| path);
        let in_text = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let named = in_text
            .map(|word| word.trim_end_matches(':'))
            .filter(|word| word.contains("::") && !word.starts_with(':'))
            .map(|word| word.split("::").map(str::to_owned).collect::<Vec<_>>());
        used.chain(named)
            .filter_map(|path| self.file_of(&self.absolute(file, &path)?, 0))
            .filter(|other| other.module == file.module && other.path != file.path)
            .map(|other| other.path.as_str())
            .collect()
    }
}

/// The paths of a `use` tree, each with the name that it imports.
fn expand(tree: &str, before: &[String]) -> Vec<(Vec<String>, String)> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in tree.char_indices().chain([(tree.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = tree[start..at].trim();
                start = at + 1;
                let (path, group) = part.split_once('{').unwrap_or((part, ""));
                let (path, alias) = path.split_once(" as ").unwrap_or((path, ""));
                let names = path.split("::").map(str::trim).filter(|name| !name.is_empty());
                let mut path = [before, &names.map(str::to_owned).collect::<Vec<_>>()].concat();
                if let Some(group) = group.strip_suffix('}') {
                    found.extend(expand(group, &path));
                    continue;
                }
                if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                let Some(last) = path.last().cloned() else { continue };
                found.push((path, if alias.is_empty() { last } else { alias.to_owned() }));
            }
            _ => {}
        }
    }
    found
}

fn numbered(lines: &[String]) -> impl Iterator<Item = (usize, &str)> {
    lines.iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
}

/// The first names of a path, or of each path in a group.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut depth, mut heads, mut start) = (0, Vec::new(), 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(name(&group[start..at]));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn root(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
}

/// All of `src/`; modules that only tests have are left out.
fn source() -> Vec<File> {
    let mut paths = Vec::new();
    rust_files(&root("src"), &mut paths);
    let texts: Vec<(PathBuf, String)> = paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("source is text");
            (path, text)
        })
        .collect();
    let of_tests: BTreeSet<PathBuf> = texts
        .iter()
        .flat_map(|(path, text)| {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let modules =
                lines.windows(2).filter(|two| two[0] == "#[cfg(test)]").filter_map(|two| {
                    two[1].strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name.to_owned())
                });
            let directory = path.parent().expect("a file is in a directory").to_owned();
            modules.map(move |name| directory.join(format!("{name}.rs"))).collect::<Vec<_>>()
        })
        .collect();
    texts
        .into_iter()
        .filter(|(path, _)| !of_tests.contains(path))
        .map(|(path, text)| {
            let below =
                path.strip_prefix(root("src")).expect("it lies in src").display().to_string();
            let module =
                below.split('/').next().expect("a name").trim_end_matches(".rs").to_owned();
            File { path: below, module, lines: code(&text) }
        })
        .collect()
}

/// The lines with comments and inline test modules emptied.
fn code(text: &str) -> Vec<String> {
    let (mut lines, mut in_tests, mut before) = (Vec::new(), false, "");
    for line in text.lines() {
        in_tests |= before == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
        let comment = line
            .match_indices("//")
            .find(|(at, _)| line[..*at].trim().is_empty() || line[..*at].ends_with(' '));
        let kept = comment.map_or(line, |(at, _)| &line[..at]);
        lines.push(if in_tests { String::new() } else { kept.to_owned() });
        in_tests &= line != "}";
        before = line;
    }
    lines
}

/// Everything that can be reached from a file, not counting the file unless it is in a circle.
fn reached<'a>(below: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let (mut reached, mut waiting) = (BTreeSet::new(), below[from].iter().collect::<Vec<_>>());
    while let Some(file) = waiting.pop() {
        if reached.insert(*file) {
            waiting.extend(&below[*file]);
        }
    }
    reached
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn imports_point_down_the_flow_or_to_the_ground() {
    let mut broken = Vec::new();
    let files = source();
    let modules: BTreeSet<&str> = files.iter().map(|file| file.module.as_str()).collect();
    let listed = |table: &[(&str, &'static [&'static str])], module: &str| {
        table.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, may)| *may)
    };
    for file in files.iter().filter(|file| !file.is_in(ABOVE_THE_MODULES)) {
        for (line, import) in file.imports() {
            if !modules.contains(import.as_str()) {
                continue; // A macro, or a name at the root.
            }
            let import = import.as_str();
            let may = if file.is_in(GROUND) {
                listed(GROUND_IMPORTS, &file.module).contains(&import)
            } else {
                GROUND.contains(&import) || listed(IMPORTS, &file.module).contains(&import)
            };
            let place = format!("src/{}:{line}", file.path);
            if !may {
                broken.push(format!("{place}: {} may not import {import}", file.module));
            }
            let for_postbacks = ["state", "client", "error"].contains(&import);
            if for_postbacks && !file.is_postback() && !file.is_in(&["state", "client", "server"]) {
                broken.push(format!("{place}: only handlers may import {import}"));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn files_of_a_module_do_not_import_each_other() {
    let files = source();
    let paths = Paths::of(&files);
    let below: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|file| (file.path.as_str(), paths.neighbors(file))).collect();
    let all: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|file| (file.path.as_str(), reached(&below, &file.path))).collect();
    let mut circles = BTreeSet::new();
    for file in files.iter().filter(|file| all[file.path.as_str()].contains(file.path.as_str())) {
        let back = |other: &&&str| all[**other].contains(file.path.as_str());
        circles.insert(all[file.path.as_str()].iter().filter(back).copied().collect::<Vec<_>>());
    }
    let allowed = |circle: &[&str]| {
        let is_in = |place: &str| circle.iter().all(|file| file.starts_with(&format!("{place}/")));
        CIRCLES.iter().map(|(place, _)| *place).find(|place| is_in(place))
    };
    let found: BTreeSet<&str> = circles.iter().filter_map(|circle| allowed(circle)).collect();
    let mut broken: Vec<String> = circles
        .iter()
        .filter(|circle| allowed(circle).is_none())
        .map(|circle| {
            let each = circle.iter().map(|file| {
                let next: Vec<&str> =
                    circle.iter().filter(|next| below[*file].contains(**next)).copied().collect();
                format!("  src/{file} uses {}", next.join(", "))
            });
            let each = each.collect::<Vec<_>>().join("\n");
            format!("these import each other; move what they share to a file below them:\n{each}")
        })
        .collect();
    let stale = CIRCLES.iter().filter(|(place, _)| !found.contains(place));
    broken.extend(stale.map(|(place, _)| format!("{place} has no circle: take it off the list")));
    assert_none(&broken);
}

#[test]
fn crates_are_used_only_where_they_belong() {
    let mut broken = Vec::new();
    for file in source() {
        for (line, text) in numbered(&file.lines) {
            for home in HOMES {
                let is_there = text.match_indices(home.word).any(|(at, word)| {
                    let joins = |c: char| c.is_alphanumeric() || c == '_';
                    !text[..at].ends_with(joins) && !text[at + word.len()..].starts_with(joins)
                });
                if is_there && !(home.is_home)(&file) {
                    broken.push(format!("src/{}:{line}: {}", file.path, home.rule));
                }
            }
        }
    }
    broken.dedup();
    assert_none(&broken);
}

#[test]
fn one_module_writes_a_table() {
    let mut broken = Vec::new();
    let owner = |table: &str| {
        OWNERS.iter().find(|(_, tables)| tables.contains(&table)).map(|(module, _)| *module)
    };
    for file in source() {
        for (line, table) in file.written_tables() {
            let place = format!("src/{}:{line}", file.path);
            match owner(&table) {
                // Built from the name of a table that the owner's file gives.
                None if (table.contains('{') || table == "self") && file.is_in(&["store"]) => {}
                None => broken.push(format!("{place}: {table} has no owner in this test's list")),
                Some(module) if module != file.module => {
                    broken.push(format!("{place}: only {module} writes {table}"));
                }
                Some(_) if !file.is_table() && !file.is_in(&["store"]) => {
                    broken.push(format!(
                        "{place}: {table} is written outside of the module's table file"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn only_named_modules_read_the_tables_of_another() {
    let mut broken = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> = READERS
        .iter()
        .flat_map(|(module, tables)| tables.iter().map(|table| (*module, *table)))
        .collect();
    for file in source().iter().filter(|file| !file.is_in(&["report", "store"])) {
        for (line, name) in file.read_names() {
            let owner = OWNERS.iter().find(|(_, tables)| tables.contains(&name.as_str()));
            let Some((owner, _)) = owner.filter(|(owner, _)| *owner != file.module) else {
                continue;
            };
            let may = READERS.iter().find(|(module, _)| *module == file.module);
            match may.and_then(|(module, tables)| {
                tables.iter().find(|table| **table == name).map(|table| (*module, *table))
            }) {
                Some(used) => drop(unused.remove(&used)),
                None => broken.push(format!(
                    "src/{}:{line}: {} reads {name} of {owner}; ask {owner} for it, or list it here",
                    file.path, file.module
                )),
            }
        }
    }
    broken.extend(unused.iter().map(|(module, table)| format!("{module} does not read {table}")));
    assert_none(&broken);
}

#[test]
fn every_table_has_an_owner() {
    let mut broken = Vec::new();
    for entry in fs::read_dir(root("migrations")).expect("there are migrations") {
        let path = entry.expect("a directory can be listed").path();
        let text = fs::read_to_string(&path).expect("SQL is text");
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("create table ") else { continue };
            let table = rest.split([' ', '(']).next().unwrap_or_default();
            if !OWNERS.iter().any(|(_, tables)| tables.contains(&table)) {
                broken
                    .push(format!("{}: {table} has no owner in this test's list", path.display()));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn every_file_begins_with_a_description() {
    let mut paths = Vec::new();
    for directory in ["src", "tests/it", "examples"] {
        rust_files(&root(directory), &mut paths);
    }
    let silent = paths.iter().filter(|path| {
        let text = fs::read_to_string(path).expect("source is text");
        !text.starts_with("//! ")
    });
    let broken: Vec<String> =
        silent.map(|path| format!("{}:1: it does not open with //!", path.display())).collect();
    assert_none(&broken);
}
