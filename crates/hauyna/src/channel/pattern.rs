//! Patterns of channel names: literal text, `{name}` for a part without `:`, and `{*name}` for the rest.
//! Pure; used by `options`.

use crate::error::Error;
use std::ops::Index;

/// A parsed pattern such as `room:{id}`, of channels or of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Param(Box<str>),
    Rest(Box<str>),
}

/// What a pattern's parameters stand for in one name: `params["id"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Params<'a> {
    /// Names and values, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }

    /// The value of a parameter, where the pattern has it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

impl Index<&str> for Params<'_> {
    type Output = str;

    /// # Panics
    ///
    /// Where the pattern has no parameter of that name.
    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("the channel pattern has no parameter `{name}`"))
    }
}

impl Pattern {
    /// # Errors
    ///
    /// `Config` where braces do not match, a parameter has no name, or two parameters touch.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::config(format!("channel pattern `{text}`: {why}"));
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if matches!(parts.last(), Some(Part::Rest(_))) {
                return Err(bad("nothing may follow a catch-all"));
            }
            let Some(open) = rest.strip_prefix('{') else {
                let end = rest.find('{').unwrap_or(rest.len());
                if rest[..end].contains('}') {
                    return Err(bad("a `}` without its `{`"));
                }
                parts.push(Part::Literal(rest[..end].into()));
                rest = &rest[end..];
                continue;
            };
            let (name, after) = open.split_once('}').ok_or_else(|| bad("a `{` without its `}`"))?;
            if !matches!(parts.last(), None | Some(Part::Literal(_))) {
                return Err(bad("two parameters need a literal between them"));
            }
            let part = match name.strip_prefix('*') {
                Some(name) => Part::Rest(name.into()),
                None => Part::Param(name.into()),
            };
            if matches!(&part, Part::Rest(name) | Part::Param(name) if name.is_empty() || name.contains('{'))
            {
                return Err(bad("a parameter without a proper name"));
            }
            parts.push(part);
            rest = after;
        }
        if parts.is_empty() { Err(bad("it is empty")) } else { Ok(Self(parts)) }
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.walk(name, &mut |_, _| {})
    }

    pub(crate) fn params<'a>(&'a self, name: &'a str) -> Option<Params<'a>> {
        let mut params = Vec::new();
        self.walk(name, &mut |key, value| params.push((key, value))).then_some(Params(params))
    }

    fn walk<'a>(&'a self, name: &'a str, found: &mut dyn FnMut(&'a str, &'a str)) -> bool {
        let mut rest = name;
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Literal(text) => match rest.strip_prefix(&**text) {
                    Some(after) => rest = after,
                    None => return false,
                },
                Part::Rest(key) => {
                    found(key, rest);
                    return !rest.is_empty();
                }
                Part::Param(key) => {
                    let end = match self.0.get(index + 1) {
                        Some(Part::Literal(next)) => rest.find(&**next),
                        _ => Some(rest.len()),
                    };
                    let Some(end) = end.filter(|end| *end > 0 && !rest[..*end].contains(':')) else {
                        return false;
                    };
                    found(key, &rest[..end]);
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_takes_one_part_and_a_catch_all_the_rest() {
        let room = Pattern::parse("room:{id}").unwrap();
        assert_eq!(room.params("room:7").unwrap().get("id"), Some("7"));
        assert!(!room.matches("room:7:x") && !room.matches("room:") && !room.matches("rooms:7"));
        let all = Pattern::parse("{*any}").unwrap();
        assert_eq!(&all.params("a:b:c").unwrap()["any"], "a:b:c");
        assert!(!all.matches(""));
        let two = Pattern::parse("game:{id}:team:{team}").unwrap();
        let params = two.params("game:1:team:red").unwrap();
        assert_eq!((&params["id"], &params["team"]), ("1", "red"));
    }

    #[test]
    fn a_literal_pattern_matches_itself_alone() {
        let general = Pattern::parse("general").unwrap();
        assert!(general.matches("general"));
        assert!(!general.matches("general2") && !general.matches("gen"));
    }

    #[test]
    fn bad_patterns_are_refused_with_their_fault() {
        for text in ["", "{", "a}", "{}", "{*}", "{a}{b}", "{*a}b", "room:{id", "{*a}{b}", "{a{b}}"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
