//! Finds the files of the project, and splits Rust source into code and comments, line by line, so that a
//! rule about code does not match a comment or a string. The checks use it.

use anyhow::Result;
use std::path::{Path, PathBuf};

/// Returns all files below `folder` with one of these extensions, without built, fetched or generated ones,
/// and without symbolic links, which stand for files that are found where they are.
pub(crate) fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_symlink() {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && !FOREIGN.contains(&&*name) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One line of a Rust file, split into code and comment. Strings are in neither.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) comment: String,
}

/// Splits a file into lines. Handles nested comments, raw strings, and lifetimes as opposed to characters.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut rest = text;
    while !rest.is_empty() {
        let (kind, length) = next_piece(rest);
        let (piece, after) = rest.split_at(length);
        for (i, part) in piece.split('\n').enumerate() {
            if i > 0 {
                lines.push(Line::default());
            }
            let line = lines.last_mut().expect("invariant: there is always a line");
            match kind {
                Kind::Code => line.code.push_str(part),
                Kind::Comment => line.comment.push_str(part),
                Kind::Text => {}
            }
        }
        rest = after;
    }
    lines
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Comment,
    Text,
}

/// Returns the kind of the piece at the beginning of `rest`, and its length in bytes.
fn next_piece(rest: &str) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    if rest.starts_with('"') {
        return (Kind::Text, quoted(rest, '"'));
    }
    if let Some(length) = raw_string(rest) {
        return (Kind::Text, length);
    }
    if let Some(length) = character(rest) {
        return (Kind::Text, length);
    }
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (Kind::Code, word.max(rest.chars().next().map_or(1, char::len_utf8)))
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].bytes().take_while(|&b| b == b'#').count();
    let opening = prefix.len() + hashes + 1;
    if rest.as_bytes().get(opening - 1) != Some(&b'"') {
        return None;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    Some(rest[opening..].find(&closing).map_or(rest.len(), |at| opening + at + closing.len()))
}

fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.strip_prefix('\'')?.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) => Some(quoted(rest, '\'')),
        (c, '\'') => Some(c.len_utf8() + 2),
        _ => None,
    }
}

const FOREIGN: [&str; 8] =
    ["target", "node_modules", "build", "dist", ".next", "corpus", "artifacts", "test-results"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_not_code() {
        let found = lines("let a = \"x // y\"; // z\nlet b: &'a str = r#\"q\"w\"#; '\\'' 'c'");
        assert_eq!(found[0].code, "let a = ; ");
        assert_eq!(found[0].comment, "// z");
        assert_eq!(found[1].code, "let b: &'a str = ;  ");
    }

    #[test]
    fn a_nested_comment_ends_where_the_outer_one_ends() {
        let found = lines("a /* b /* c */ d\n */ e");
        assert_eq!(found[0].code, "a ");
        assert_eq!(found[1].code, " e");
    }
}
