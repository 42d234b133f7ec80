//! The name of a user by number, for the author of a site edit.

/// The most of the user database that is read: a device's has a few dozen lines.
const MAX_BYTES: usize = 1 << 20;

/// The name of the user `uid` as the local user database has it; `uid-<n>` when it does not (users of a directory service).
pub(super) fn name(uid: u32) -> String {
    let database = std::fs::read("/etc/passwd").unwrap_or_default();
    let text = String::from_utf8_lossy(&database[..database.len().min(MAX_BYTES)]);
    find(&text, uid).unwrap_or_else(|| format!("uid-{uid}"))
}

/// `name:password:uid:…` per line. Names that could not stand in an author are passed over.
fn find(database: &str, uid: u32) -> Option<String> {
    database.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        let plain = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        (plain && number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let database = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n:x:7:7::/:/\n";
        assert_eq!(find(database, 1000).as_deref(), Some("ann"));
        assert_eq!(find(database, 7), None);
        assert_eq!(name(4_000_000_000), "uid-4000000000");
    }
}
