//! The documents agree with the code and with each other: names exist, links have targets, examples are
//! compiled, and the two READMEs show the same code.

use crate::common::files_below;
use crate::security::tests_of;
use std::collections::BTreeSet;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of all documents, from the root of the project.
fn documents() -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(ROOT)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .collect();
    found.extend(guides().into_iter().map(|name| format!("docs/{name}")));
    found.extend(pages_in("docs/es").into_iter().map(|name| format!("docs/es/{name}")));
    found.push("examples/README.md".to_owned());
    found
}

fn guides() -> Vec<String> {
    pages_in("docs")
}

/// The names of the Markdown files in a folder, without those below it.
fn pages_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".md")).collect()
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_reference_names_what_exists() {
    let (mut tests, mut public) = (BTreeSet::new(), BTreeSet::new());
    for path in files_below(&format!("{ROOT}/crates"), &["rs"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        tests.extend(tests_of(&text));
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("pub ")) {
            let line = line.trim_start_matches("async ").trim_start_matches("const ");
            let word =
                ["fn ", "struct ", "enum ", "trait ", "mod "].iter().find_map(|kind| line.strip_prefix(kind));
            if let Some(word) = word {
                let end = word.find(|character: char| !character.is_alphanumeric() && character != '_');
                public.insert(word[..end.unwrap_or(word.len())].to_owned());
            }
        }
    }
    let page = read("docs/reference.md");
    let (mut calls, mut named) = (0, 0);
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.contains("| call |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // Tables with two columns need no check.
        let [_, _, about, proofs, _, _] = cells[..] else { continue };
        for call in quoted(about) {
            for part in call.split("::") {
                assert!(public.contains(part), "there is no {part}: {row}");
            }
            calls += 1;
        }
        for test in quoted(proofs) {
            assert!(tests.contains(test), "there is no test {test}");
            named += 1;
        }
    }
    assert!(calls > 100 && named > 50, "{calls} calls, {named} tests");
}

/// Returns the names of the public methods of a type that take `self`, from all of its `impl` blocks.
fn options_of(name: &str) -> BTreeSet<String> {
    let mut options = BTreeSet::new();
    for path in files_below(&format!("{ROOT}/crates/hauyna/src"), &["rs"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split(&format!("\nimpl {name} {{")).skip(1) {
            let block = block.split("\n}").next().unwrap();
            for function in block.split("\n    pub fn ").skip(1) {
                let signature = function.split(" {\n").next().unwrap();
                let end = signature.find(['(', '<']).unwrap();
                if signature[end..].contains("self") {
                    options.insert(signature[..end].to_owned());
                }
            }
        }
    }
    options
}

#[test]
fn the_table_of_channel_options_has_every_option() {
    let page = read("docs/channels.md");
    let table = page.split("| option | default | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut named = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        for call in quoted(row.split('|').nth(1).unwrap()) {
            let name = call.split(['(', ':']).next().unwrap();
            assert!(named.insert(name.to_owned()), "`{name}` is there twice");
        }
    }
    assert_eq!(named, options_of("ChannelOptions"));
    assert!(named.len() > 15, "{named:?}");
}

/// A reader of docs.rs starts at a module, and has to find the guide from there.
#[test]
fn every_public_module_leads_to_its_guide() {
    let root = read("crates/hauyna/src/lib.rs");
    let mut seen = 0;
    let mut docs = String::new();
    for line in root.lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            let docs = match module.strip_suffix(';') {
                Some("guide") => continue,
                Some(name) => header_of(name),
                None => std::mem::take(&mut docs),
            };
            assert!(docs.contains("(crate::guide::"), "{module}: {docs}");
            assert!(docs.lines().count() > 3, "{module}: a sentence or two say what it is for: {docs}");
            seen += 1;
        }
        if !line.starts_with("///") {
            docs.clear();
        } else {
            docs.push_str(line);
            docs.push('\n');
        }
    }
    assert!(seen >= 16, "{seen} modules");
}

/// Returns the documentation in the file of a module of the library.
fn header_of(module: &str) -> String {
    let path =
        ["crates/hauyna/src/{}/mod.rs", "crates/hauyna/src/{}.rs"].map(|path| path.replace("{}", module));
    let path = path.iter().find(|path| Path::new(ROOT).join(path).exists()).expect("the file of a module");
    let text = read(path);
    text.lines().take_while(|line| line.starts_with("//!")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(ROOT).join(&document).parent().unwrap().to_owned();
        let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let defined =
            text.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
        for link in inline.chain(defined.map(|(_, link)| link)) {
            let is_ours = !link.starts_with("http") && !link.contains(' ') && !link.contains("::");
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            if !is_ours {
                continue;
            }
            let target = if path.is_empty() { Path::new(ROOT).join(&document) } else { folder.join(path) };
            assert!(target.exists(), "{document}: {link}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.any(|anchor| anchor == heading), "{document}: {link}");
            }
        }
    }
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character }).collect()
}

#[test]
fn the_spanish_pages_show_the_same_code() {
    let blocks = |name: &str| -> Vec<String> {
        read(name).split("\n```").skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut pages = vec![("README.md".to_owned(), "README.es.md".to_owned())];
    for name in pages_in("docs/es") {
        pages.push((format!("docs/{name}"), format!("docs/es/{name}")));
    }
    assert!(pages.len() >= 2);
    for (english, spanish) in pages {
        let (code, translated) = (blocks(&english), blocks(&spanish));
        assert!(code.len() >= 5, "{english}");
        assert_eq!(code, translated, "{spanish}");
    }
}

/// In the documentation of the crate, links to files lead where `links.txt` says.
#[test]
fn links_of_packed_guides_lead_somewhere_in_the_crates_documentation() {
    let links = read("crates/hauyna/src/guide/links.txt");
    let is_file = |link: &str| !link.starts_with("http") && !link.starts_with('#');
    let packed = pages_in("crates/hauyna/docs");
    assert!(packed.len() >= 16, "{packed:?}");
    for guide in packed {
        let text = read(&format!("docs/{guide}"));
        let prose: String = text.split("```").step_by(2).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            assert!(!is_file(link), "{guide}: write [text][{link}], and define it at the end of the page");
        }
        for link in
            prose.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).map(|(link, _)| link)
        {
            assert!(links.contains(&format!("[{link}]: ")), "{link} of {guide} is not in links.txt");
        }
    }
}

#[test]
fn every_guide_is_in_the_index_and_its_examples_are_compiled() {
    let index = read("docs/README.md");
    let sources = ["crates/hauyna/src/guide.rs", "crates/hauyna-client/src/lib.rs"];
    let compiled = sources.map(read).concat();
    for guide in guides() {
        assert!(
            guide == "README.md" || index.contains(&format!("]({guide})")),
            "{guide} is not in docs/README.md"
        );
        if read(&format!("docs/{guide}")).contains("```rust") {
            assert!(
                compiled.contains(&format!("docs/{guide}\")")),
                "{guide}: its Rust is compiled by no doc test"
            );
        }
    }
}
