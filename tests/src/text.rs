//! What two programs printed, made comparable.

/// The text with every UUID replaced by `UUID`.
#[must_use]
pub fn without_uuids(text: &str) -> String {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_uuid = |word: &str| {
        let groups: Vec<&str> = word.split('-').collect();
        let hex = |group: &&str| group.chars().all(|c| c.is_ascii_hexdigit());
        groups.iter().map(|group| group.len()).eq(GROUPS) && groups.iter().all(hex)
    };
    let mut result = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let uuid = rest.get(..36).filter(|word| is_uuid(word));
        let taken = match uuid {
            Some(uuid) => {
                result.push_str("UUID");
                uuid.len()
            }
            None => {
                result.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    result
}

/// Parts of the text, between blank lines, in alphabetical order.
#[must_use]
pub fn sorted_records(text: &str) -> Vec<String> {
    let mut records: Vec<String> = text.trim_end().split("\n\n").map(str::to_owned).collect();
    records.sort();
    records
}

/// Lines of the text in alphabetical order.
#[must_use]
pub fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Splits a line as a shell would, knowing only blanks and `'`.
#[must_use]
pub fn quoted_words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
