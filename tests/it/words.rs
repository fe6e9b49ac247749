//! The guard of plain English: refuses retired words in pages, docs, comments, log lines, messages
//! and test names. Reads Markdown and templates as a whole, and the comments and string literals of
//! source files.

use std::fs;
use std::path::{Path, PathBuf};

/// Retired words and what to write instead.
const RETIRED: &[(&[&str], &str)] = &[
    (&["told"], "sent, recorded, informed"),
    (&["owe", "owes", "owed"], "queue, queued, pending"),
    (&["hear", "hears", "heard"], "receive, received"),
    (&["bell", "bells"], "wake-up, notify"),
    (&["books"], "Stripe's records"),
    (&["mend", "mends", "mended"], "fix"),
    (&["anew"], "again, new"),
    (&["stands"], "is, is stored, shows"),
    (&["whoever"], "name the person"),
    (&["by itself", "by themselves"], "automatically, on its own"),
    (&["nobody looks", "looks by"], "poll, check"),
    (&["least value"], "minimum amount"),
    (&["for ever"], "forever"),
    (
        &["lent", "borrowed", "borrower", "borrowers", "lender"],
        "matched through an earlier payment",
    ),
    (&["door", "doors"], "HTTP endpoint, handler"),
    (&["room", "rooms"], "module"),
    (&["he", "him", "his", "himself"], "they, them, their"),
    (&["e-mail", "e-mails"], "email"),
];

/// Right uses of these words: phrases in any file, and words in one file.
const ALLOWED: &[&str] = &["stands for", "has room for", "have room for"];
const ALLOWED_IN: &[(&str, &str)] = &[
    // A medium that links may have.
    ("src/visit/channel.rs", "e-mail"),
    // A key of stored JSON, a CSS class.
    ("src/conversion/payment.rs", "told"),
    ("src/dashboard/journey/mod.rs", "told"),
    ("templates/account.html", "door"),
    ("templates/error.html", "door"),
    ("templates/login.html", "door"),
];

#[test]
fn pages_docs_and_comments_use_no_retired_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for directory in ["docs", "examples", "packages", "src", "static", "templates", "tests"] {
        add_files(&root.join(directory), &mut files);
    }
    let mut broken = Vec::new();
    for file in &files {
        let path = file.strip_prefix(root).expect("below the root").to_string_lossy();
        let text = fs::read_to_string(file).expect("readable text");
        broken.extend(retired_words(&path, &text));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The files to read, by their endings. Skips minified scripts, this test, and packages of npm.
fn add_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_read = [".rs", ".md", ".html", ".txt", ".js", ".mjs", ".ts"]
            .iter()
            .any(|ending| name.ends_with(ending));
        if path.is_dir() && name != "node_modules" && name != "fixtures" {
            add_files(&path, found);
        } else if path.is_file() && is_read && !name.contains(".min.") && !name.starts_with("words")
        {
            found.push(path);
        }
    }
}

fn retired_words(path: &str, text: &str) -> Vec<String> {
    let prose = match path.rsplit('.').next() {
        Some("rs") => rust_prose(text),
        Some("js" | "mjs" | "ts") => script_prose(text),
        _ => (1..).zip(text.lines().map(str::to_owned)).collect(),
    };
    let mut found = Vec::new();
    for (line, text) in prose {
        let words = normalized(&text);
        for (retired, instead) in RETIRED {
            let is_used = |word: &&&str| {
                words.contains(&format!(" {word} ")) && !ALLOWED_IN.contains(&(path, word))
            };
            for word in retired.iter().filter(is_used) {
                found.push(format!("{path}:{line}: \"{word}\"; write instead: {instead}"));
            }
        }
    }
    found
}

/// Lower-case words with single spaces around them, without code in backticks or braces and without
/// allowed phrases.
fn normalized(text: &str) -> String {
    let mut plain = String::new();
    for (at, part) in text.split('`').enumerate() {
        plain.push_str(if at % 2 == 0 { part } else { " " });
    }
    let mut without_code = String::new();
    for (at, part) in plain.split("{{").enumerate() {
        without_code.push_str(if at == 0 {
            part
        } else {
            part.split_once("}}").unwrap_or(("", "")).1
        });
    }
    let is_word = |char: char| char.is_alphanumeric() || char == '_' || char == '-';
    let words: Vec<_> =
        without_code.split(|char| !is_word(char)).filter(|word| !word.is_empty()).collect();
    let words = format!(" {} ", words.join(" ").to_lowercase());
    ALLOWED.iter().fold(words, |words, allowed| words.replace(&format!(" {allowed} "), " "))
}

/// The comments of a script and the names of its tests, with their line numbers.
fn script_prose(text: &str) -> Vec<(usize, String)> {
    let starts = ["//", "/*", "*", "test(", "describe("];
    let is_prose = |line: &&str| starts.iter().any(|start| line.trim_start().starts_with(start));
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| is_prose(line))
        .map(|(number, line)| (number, line.to_owned()))
        .collect()
}

/// The comments and string literals of Rust source, line by line, with their line numbers.
fn rust_prose(text: &str) -> Vec<(usize, String)> {
    let (mut prose, mut rest, mut line) = (Vec::new(), text, 1);
    let mut before = ' ';
    while let Some(char) = rest.chars().next() {
        let (start, end) = if rest.starts_with("//") {
            (2, rest.find('\n').unwrap_or(rest.len()))
        } else if let Some(hashes) =
            raw_string(rest).filter(|_| !before.is_alphanumeric() || before == 'b')
        {
            let (start, close) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
            (start, rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len()))
        } else if char == '"' {
            (1, string_end(rest))
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            (0, 3)
        } else {
            (0, char.len_utf8())
        };
        let (taken, left) = rest.split_at(end);
        if start > 0 {
            prose.extend((line..).zip(taken[start..].lines().map(str::to_owned)));
        }
        line += taken.matches('\n').count();
        before = taken.chars().next_back().unwrap_or(' ');
        rest = left;
    }
    prose
}

/// The number of hashes of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The position after the closing quote of a string that begins here.
fn string_end(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[test]
fn retired_words_are_found_in_comments_and_strings_only() {
    let source = "// A bell.\nlet bell = '\"'; // `bell` is fine, It STANDS\nlet a = r#\"owed \"#;\nlet b = \"x\\\"\n  anew\";\n";
    let found: Vec<_> = retired_words("a.rs", source)
        .iter()
        .map(|fault| fault.split(';').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        found,
        ["a.rs:1: \"bell\"", "a.rs:2: \"stands\"", "a.rs:3: \"owed\"", "a.rs:5: \"anew\""]
    );
    assert!(retired_words("a.md", "It stands for a recommendation. {{ told }} `owed`").is_empty());
    assert_eq!(retired_words("a.html", "<p>Repaired by itself</p>").len(), 1);
    assert_eq!(retired_words("a.mjs", "const bell = 1;\n  // A bell\n").len(), 1);
}
