//! Patterns of channel and group names: literal text, `{name}` for a segment without `:`, and `{*name}` for
//! the rest. Pure; used by `options`, `group` and `contract`.

use crate::error::Error;
use std::fmt;

/// A parsed pattern such as `room:{id}`, of channels or of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Param(Box<str>),
    Rest(Box<str>),
}

/// The values of a pattern's parameters in one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Params<'a> {
    /// Returns the value of a parameter, where the pattern has it.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

impl Segment {
    /// Returns the name of a parameter; `None` for literal text.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Param(name) | Self::Rest(name) => Some(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => f.write_str(text),
            Segment::Param(name) => write!(f, "{{{name}}}"),
            Segment::Rest(name) => write!(f, "{{*{name}}}"),
        })
    }
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// `Config` where braces do not match, a parameter has no name, or two parameters touch.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::config(format!("channel pattern `{text}`: {why}"));
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if matches!(segments.last(), Some(Segment::Rest(_))) {
                return Err(bad("nothing may follow a catch-all"));
            }
            let Some(open) = rest.strip_prefix('{') else {
                let end = rest.find('{').unwrap_or(rest.len());
                if rest[..end].contains('}') {
                    return Err(bad("a `}` without a `{` before it"));
                }
                segments.push(Segment::Literal(rest[..end].into()));
                rest = &rest[end..];
                continue;
            };
            let (name, after) = open.split_once('}').ok_or_else(|| bad("a `{` without a `}` after it"))?;
            if !matches!(segments.last(), None | Some(Segment::Literal(_))) {
                return Err(bad("two parameters need a literal between them"));
            }
            let segment = match name.strip_prefix('*') {
                Some(name) => Segment::Rest(name.into()),
                None => Segment::Param(name.into()),
            };
            if matches!(&segment, Segment::Rest(name) | Segment::Param(name) if name.is_empty() || name.contains('{'))
            {
                return Err(bad("a parameter needs a name without `{`"));
            }
            if segments
                .iter()
                .any(|earlier: &Segment| earlier.name().is_some() && earlier.name() == segment.name())
            {
                return Err(bad("two parameters have the same name"));
            }
            segments.push(segment);
            rest = after;
        }
        if text.chars().any(char::is_control) {
            return Err(bad("control characters are not allowed"));
        }
        if segments.is_empty() { Err(bad("a pattern must not be empty")) } else { Ok(Self(segments)) }
    }

    /// Checks a pattern against those that are declared before it.
    ///
    /// # Errors
    ///
    /// `Config` where it can never apply, because an earlier one matches every name that it matches.
    pub(crate) fn check_behind<'a>(&self, earlier: impl IntoIterator<Item = &'a Self>) -> Result<(), Error> {
        match earlier.into_iter().find(|earlier| earlier.covers(self)) {
            Some(earlier) if earlier.is_same(self) => {
                Err(Error::config(format!("the pattern `{self}` is declared twice")))
            }
            Some(earlier) => Err(Error::config(format!(
                "the pattern `{self}` never applies, because `{earlier}` is declared before it: declare `{self}` first"
            ))),
            None => Ok(()),
        }
    }

    /// Whether both match the same names; the names of the parameters may differ.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            (Segment::Param(_), Segment::Param(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            _ => false,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(is_same)
    }

    /// Whether this is known to match every name that `other` matches.
    fn covers(&self, other: &Self) -> bool {
        // Each parameter ends at a `:` or at the end, so the positions of `:` alone decide whether a name
        // matches.
        let ends_at_colon = |segments: &[Segment]| match segments {
            [Segment::Param(_), Segment::Literal(next)] => next.starts_with(':'),
            _ => true,
        };
        let is_simple = self.0.windows(2).all(ends_at_colon);
        // No name has a control character, so no literal text matches these.
        let (one, several) = (other.with_values("\0", "\0"), other.with_values("\0", "\0:\0"));
        self.is_same(other) || is_simple && self.matches(&one) && self.matches(&several)
    }

    /// Returns a name that the pattern matches, with these values for its parameters.
    fn with_values(&self, param: &str, rest: &str) -> String {
        let values = self.0.iter().map(|segment| match segment {
            Segment::Literal(text) => text,
            Segment::Param(_) => param,
            Segment::Rest(_) => rest,
        });
        values.collect()
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.walk(name, &mut |_, _| {})
    }

    pub(super) fn params<'a>(&'a self, name: &'a str) -> Option<Params<'a>> {
        let mut params = Vec::new();
        self.walk(name, &mut |key, value| params.push((key, value))).then_some(Params(params))
    }

    fn walk<'a>(&'a self, name: &'a str, found: &mut dyn FnMut(&'a str, &'a str)) -> bool {
        let mut rest = name;
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Literal(text) => match rest.strip_prefix(&**text) {
                    Some(after) => rest = after,
                    None => return false,
                },
                Segment::Rest(key) => {
                    found(key, rest);
                    return !rest.is_empty();
                }
                Segment::Param(key) => {
                    let end = self.end_of_param(index, rest);
                    let Some(end) = end.filter(|end| !rest[..*end].contains(':')) else {
                        return false;
                    };
                    found(key, &rest[..end]);
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty()
    }

    /// Returns the end of the parameter at `index`, which is not empty. It ends before the first occurrence
    /// of the literal that follows it; where that literal ends the pattern, before the last occurrence, at
    /// the end of the name.
    fn end_of_param(&self, index: usize, rest: &str) -> Option<usize> {
        let min = rest.chars().next()?.len_utf8();
        let Some(Segment::Literal(next)) = self.0.get(index + 1) else { return Some(rest.len()) };
        if index + 2 == self.0.len() {
            return rest.strip_suffix(&**next).map(str::len).filter(|end| *end >= min);
        }
        // The first occurrence, because a later one would leave less to the next parameter.
        rest[min..].find(&**next).map(|at| min + at)
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
        assert_eq!(all.params("a:b:c").unwrap().get("any"), Some("a:b:c"));
        assert!(!all.matches(""));
        let two = Pattern::parse("game:{id}:team:{team}").unwrap();
        let params = two.params("game:1:team:red").unwrap();
        assert_eq!((params.get("id"), params.get("team")), (Some("1"), Some("red")));
    }

    #[test]
    fn a_parameter_may_have_the_text_that_ends_it() {
        for (pattern, name, values) in [
            ("{team}-private", "x-private-private", Some(&["x-private"] as &[&str])),
            ("{team}-private", "--private", Some(&["-"])),
            ("{team}-private", "-private", None),
            ("{team}-private", "a:b-private", None),
            ("{a}-{b}", "--x", Some(&["-", "x"])),
            ("{a}-{b}", "x-y-z", Some(&["x", "y-z"])),
            ("{a}-{b}-end", "x-y-end-end", Some(&["x", "y-end"])),
            ("{a}-{b}-end", "x-end", None),
            ("{a}-{*rest}", "é-é-é", Some(&["é", "é-é"])),
            ("{a}é", "éé", Some(&["é"])),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let params =
                pattern.params(name).map(|params| params.0.iter().map(|one| one.1).collect::<Vec<_>>());
            assert_eq!(params.as_deref(), values, "`{pattern}` and `{name}`");
        }
    }

    #[test]
    fn a_literal_pattern_matches_itself_alone() {
        let general = Pattern::parse("general").unwrap();
        assert!(general.matches("general"));
        assert!(!general.matches("general2") && !general.matches("gen"));
    }

    #[test]
    fn bad_patterns_are_refused_with_their_fault() {
        let twice = ["{a}:{a}", "{a}:{*a}"];
        let malformed =
            ["", "{", "a}", "{}", "{*}", "{a}{b}", "{*a}b", "room:{id", "{*a}{b}", "{a{b}}", "a\u{7}"];
        for text in malformed.into_iter().chain(twice) {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pattern_that_could_never_decide_is_refused_behind_the_one_that_does() {
        let parse = |text| Pattern::parse(text).unwrap();
        for (earlier, later, is_dead) in [
            ("room:{id}", "room:{id}", true),
            ("room:{id}", "room:{name}", true),
            ("room:{id}", "room:7", true),
            ("{*any}", "room:{id}", true),
            ("room:{*rest}", "room:{id}:x", true),
            ("room:{*rest}", "room:{*other}", true),
            ("{a}:{b}", "{a}:x", true),
            ("{a}-{b}", "{c}-{d}", true),
            ("room:7", "room:{id}", false),
            ("room:{id}", "room:{*rest}", false),
            ("{a}:{b}", "{*rest}", false),
            ("room:{id}", "room:{id}:x", false),
            ("room:{id}:x", "room:{id}", false),
            ("{a}x", "{b}yx", false),
            ("rooms:{id}", "room:{id}", false),
        ] {
            let checked = parse(later).check_behind([&parse(earlier)]);
            assert_eq!(checked.is_err(), is_dead, "`{later}` behind `{earlier}`: {checked:?}");
        }
    }
}
