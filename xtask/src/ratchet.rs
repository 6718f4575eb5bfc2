//! The step `ratchet`: which module of the library may import which. `xtask/modules.txt` names the modules of
//! the ground floor, which import only one another and which every module may import. For each other module it
//! has a line with the modules above the ground that it imports. These lists only shrink, so that lower modules
//! never depend on higher ones.

use crate::source;
use crate::steps::Outcome;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// Compares the imports of the modules with the list.
pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let list = workspace.root.join("xtask/modules.txt");
    let text = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let mut allowed = read_list(&text);
    let ground = allowed.remove(GROUND).unwrap_or_default();
    let mut found = imports(&workspace.root.join("crates/hauyna/src"))?;
    for named in found.values_mut() {
        named.retain(|other| !ground.contains(other));
    }
    let modules = found.len();
    // A line for each module keeps the list complete.
    let mut faults: Vec<String> = found
        .keys()
        .filter(|module| !ground.contains(*module) && !allowed.contains_key(*module))
        .map(|module| format!("xtask/modules.txt has no line for `{module}`"))
        .collect();
    for (module, named) in &found {
        let may = allowed.get(module).cloned().unwrap_or_default();
        faults.extend(named.difference(&may).map(|other| format!("`{module}` must not import `{other}`")));
    }
    for (module, may) in &allowed {
        let named = found.get(module).cloned().unwrap_or_default();
        let unused = may.difference(&named);
        faults.extend(unused.map(|other| {
            format!("`{module}` no longer imports `{other}`: remove it from xtask/modules.txt")
        }));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let arrows: usize = found.values().map(BTreeSet::len).sum();
    let on_ground = ground.len();
    Ok(Outcome::Passed(format!(
        "{modules} modules, {on_ground} of them on the ground, {arrows} arrows above it"
    )))
}

/// The line of the list that names the modules of the ground floor.
const GROUND: &str = "ground";

/// Reads lines such as `channel: broker hub`. `#` starts a comment.
fn read_list(text: &str) -> Imports {
    text.lines()
        .filter_map(|line| line.split('#').next()?.split_once(':'))
        .map(|(module, named)| {
            (module.trim().to_owned(), named.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

/// Returns the modules of a crate, each with the modules that its code names through `crate::`, without
/// tests.
fn imports(root: &Path) -> Result<Imports> {
    let mut found = Imports::new();
    for path in source::files(root, &["rs"])? {
        let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        let module = name.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if module == "lib" || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let lines = source::lines(&text);
        let end = lines.iter().position(|line| line.code.trim() == "#[cfg(test)]").unwrap_or(lines.len());
        let code: String = lines[..end].iter().map(|line| format!("{} ", line.code)).collect();
        let named = found.entry(module.clone()).or_default();
        named.extend(named_modules(&code).into_iter().filter(|other| *other != module));
    }
    let modules: BTreeSet<String> = found.keys().cloned().collect();
    for named in found.values_mut() {
        named.retain(|other| modules.contains(other));
    }
    Ok(found)
}

/// Returns the first segment of every path after `crate::`, also of paths in braces.
fn named_modules(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            named.extend(heads(group));
        } else {
            named.extend(head(rest));
        }
    }
    named
}

/// Returns the first segment of each path of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut is_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            _ if is_start && !c.is_whitespace() => {
                found.extend(head(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_and_outside_of_braces() {
        let code = "use crate::hub::Hub; use crate::{a::{b, c}, d}; crate::e::f(); pub(crate) fn g() {}";
        let named: Vec<String> = named_modules(code).into_iter().collect();
        assert_eq!(named, ["a", "d", "e", "hub"]);
    }

    #[test]
    fn list_is_read_without_its_comments() {
        let list = read_list("# modules\nchannel: broker hub # on purpose\nclock:\n");
        assert_eq!(list["channel"].len(), 2);
        assert!(list["clock"].is_empty());
    }
}
