//! Reads the SQL statements in the sources: each on a tenant's rows names the tenant, and SQL stands in stores only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Statements on tenant-owned tables that name no tenant, and why. Found by a part of their text.
const WITHOUT_TENANT: &[(&str, &str)] = &[
    ("FROM api_keys WHERE secret_hash = $1", "finds the tenant of a presented key"),
    ("DELETE FROM sessions WHERE secret_hash = $1", "ends the session of who presents its secret"),
    ("DELETE FROM idempotency WHERE created_us < $1", "removes what is old, of all tenants"),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        (name, fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

fn is_store(name: &str) -> bool {
    name.split(['/', '.']).any(|part| part == "store" || part.ends_with("_store"))
}

fn is_test(name: &str) -> bool {
    name.split(['/', '.']).any(|part| part == "tests" || part.ends_with("_tests") || part.starts_with("test"))
}

/// The string literals of a source file, joined where the text goes on after a backslash.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                for c in chars.by_ref() {
                    if c == '\n' {
                        break;
                    }
                }
            }
            // A character that is a quote.
            '\'' if chars.peek() == Some(&'"') => {
                chars.next();
            }
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some('\n') => {
                                while chars.peek().is_some_and(|c| c.is_whitespace()) {
                                    chars.next();
                                }
                            }
                            Some(other) => text.push(other),
                            None => break,
                        },
                        other => text.push(other),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The tables that a statement reads or writes.
fn tables(statement: &str) -> BTreeSet<String> {
    let words: Vec<&str> = statement.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let pairs = words.windows(2).filter(|pair| matches!(pair[0], "FROM" | "JOIN" | "INTO" | "UPDATE"));
    pairs.map(|pair| pair[1].to_owned()).collect()
}

/// The tables with a column `tenant_id`, in either dialect.
fn owned() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut owned = BTreeSet::new();
    for dialect in ["sqlite", "postgres"] {
        for entry in fs::read_dir(root.join(dialect)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for table in text.split("CREATE TABLE ").skip(1) {
                let (name, rest) = table.split_once('(').unwrap();
                if rest.split(");").next().unwrap().contains("tenant_id") {
                    owned.insert(name.trim().trim_start_matches("IF NOT EXISTS ").to_owned());
                }
            }
        }
    }
    owned
}

#[test]
fn every_statement_on_a_tenants_rows_names_the_tenant() {
    let owned = owned();
    assert!(owned.contains("devices") && owned.contains("api_keys"), "{owned:?}");
    let (mut leaks, mut used) = (Vec::new(), BTreeSet::new());
    let mut seen = 0;
    for (name, source) in all_sources().into_iter().filter(|(name, _)| is_store(name)) {
        for statement in literals(&source) {
            if tables(&statement).is_disjoint(&owned) {
                continue;
            }
            seen += 1;
            let exempt = WITHOUT_TENANT.iter().find(|(part, _)| statement.contains(part));
            match exempt {
                Some((part, _)) => drop(used.insert(*part)),
                None if statement.contains("tenant_id") => {}
                None => leaks.push(format!("{name}: {statement}")),
            }
        }
    }
    assert!(seen > 50, "only {seen} statements were found: the reading is broken");
    assert!(leaks.is_empty(), "statements without a tenant: {leaks:#?}");
    let unused: Vec<_> = WITHOUT_TENANT.iter().filter(|(part, _)| !used.contains(part)).collect();
    assert!(unused.is_empty(), "exceptions that nothing needs: {unused:#?}");
}

#[test]
fn sql_stands_in_stores_only() {
    let outside = all_sources().into_iter().filter(|(name, source)| {
        let allowed = is_store(name) || is_test(name) || name.starts_with("platform/");
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        !allowed && (source.contains("sqlx::query") || source.contains("sqlx::raw_sql"))
    });
    let outside: Vec<String> = outside.map(|(name, _)| name).collect();
    assert!(outside.is_empty(), "SQL outside of a store: {outside:#?}");
}

#[test]
fn the_reader_sees_what_it_should() {
    let source = "let a = '\"'; // \"FROM comments\"\nlet b = \"SELECT 1 \\\n    FROM devices d JOIN tokens\"; f('\\'', b'x', \"DELETE FROM x\");";
    let read = literals(source);
    assert_eq!(read, ["SELECT 1 FROM devices d JOIN tokens", "DELETE FROM x"]);
    assert_eq!(tables(&read[0]), BTreeSet::from(["devices".to_owned(), "tokens".to_owned()]));
}
