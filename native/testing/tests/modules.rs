//! Modules build on each other in layers: none needs another that needs it, directly or round a corner. Parents and
//! children are aside, and tests, which may use whatever they like.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree};

/// The names that lead to a module from the crate's root.
type Module = Vec<String>;

type Needs = BTreeMap<Module, BTreeSet<Module>>;

/// The modules of a crate, each with what its file says.
fn modules(folder: &Path, above: &Module, found: &mut BTreeMap<Module, syn::File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = [above.clone(), vec![name.clone()]].concat();
        if path.is_dir() {
            modules(&path, &module, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if above.is_empty() && name == "lib" { vec![] } else { module };
            found.insert(module, syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        }
    }
}

/// The paths that a file says, from the crate's root.
struct Paths {
    /// The module that is being read.
    here: Module,
    said: Vec<Module>,
}

impl Paths {
    fn say(&mut self, path: &[String]) {
        let (mut at, mut rest) = match path {
            [first, rest @ ..] if first == "crate" => (vec![], rest),
            [first, ..] if first == "super" || first == "self" => (self.here.clone(), path),
            _ => return,
        };
        while let [first, tail @ ..] = rest
            && (first == "super" || first == "self")
        {
            if first == "super" {
                at.pop();
            }
            rest = tail;
        }
        at.extend_from_slice(rest);
        self.said.push(at);
    }

    fn say_tree(&mut self, tree: &UseTree, before: &Module) {
        let with = |name: &syn::Ident| [before.clone(), vec![name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.say_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.say(before),
            UseTree::Name(name) => self.say(&with(&name.ident)),
            UseTree::Rename(name) => self.say(&with(&name.ident)),
            UseTree::Glob(_) => self.say(before),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.say_tree(item, before));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            _ => &vec![],
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.here.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.here.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.say_tree(&item.tree, &vec![]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.say(
            &path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>(),
        );
        visit::visit_path(self, path);
    }
}

/// Whether something is compiled for tests only: `cfg(test)`, or `cfg(all(test, …))`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else {
        return false;
    };
    let cfg = list.tokens.to_string();
    list.path.is_ident("cfg") && (cfg == "test" || cfg.starts_with("all (test"))
}

fn needs(folder: &Path) -> Needs {
    let mut files = BTreeMap::new();
    modules(folder, &vec![], &mut files);
    assert!(files.len() > 2, "{} has {} modules", folder.display(), files.len());
    let module_of = |path: &Module| {
        (0..=path.len())
            .rev()
            .map(|length| path[..length].to_vec())
            .find(|it| files.contains_key(it))
    };
    let needs = files.iter().map(|(module, file)| {
        let mut paths = Paths { here: module.clone(), said: vec![] };
        paths.visit_file(file);
        let others = paths.said.iter().filter_map(module_of);
        let are_related = |other: &Module| module.starts_with(other) || other.starts_with(module);
        (module.clone(), others.filter(|other| !are_related(other)).collect())
    });
    needs.collect()
}

/// Modules of which each needs the next, and the last one the first; the shortest way from any.
fn circle(needs: &Needs) -> Option<Vec<String>> {
    let ways = needs.keys().filter_map(|start| {
        let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(module) = next.pop_front() {
            for needed in needs.get(module).into_iter().flatten() {
                if came_from.contains_key(needed) {
                    continue;
                }
                came_from.insert(needed, module);
                next.push_back(needed);
            }
        }
        let mut way = vec![start];
        let mut at = *came_from.get(start)?;
        while at != start {
            way.push(at);
            at = came_from[at];
        }
        way.push(start);
        way.reverse();
        Some(way.into_iter().map(|module| module.join("::")).collect::<Vec<_>>())
    });
    ways.min_by_key(Vec::len)
}

#[test]
fn modules_of_a_crate_need_each_other_in_no_circle() {
    let native = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crates: Vec<_> = fs::read_dir(native).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(crates.len() > 5, "{crates:?}");
    for folder in crates {
        let circle = circle(&needs(&folder.join("src")));
        assert_eq!(circle, None, "in {}, each needs the next", folder.display());
    }
}

#[test]
fn a_circle_is_found_round_a_corner() {
    let module = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
    let needs = |pairs: &[(&str, &str)]| {
        let mut needs = Needs::new();
        for (one, other) in pairs {
            needs.entry(module(one)).or_default().insert(module(other));
        }
        needs
    };
    let layers = [("a", "b"), ("b::inner", "c"), ("a", "c"), ("c", "d")];
    assert_eq!(circle(&needs(&layers)), None);
    let round_a_corner = [&layers[..], &[("d", "e"), ("e", "c")]].concat();
    assert_eq!(circle(&needs(&round_a_corner)).unwrap(), ["c", "d", "e", "c"]);
}

#[test]
fn a_path_is_read_wherever_it_stands() {
    let source = "
        use crate::{one::{self, Two}, three as four};
        use super::five::*;
        #[cfg(test)]
        mod tests { use crate::not_this; }
        mod inner { fn call() { super::super::six::call(); crate::seven::Eight::call() } }
    ";
    let mut paths = Paths { here: vec!["here".to_owned(), "below".to_owned()], said: vec![] };
    paths.visit_file(&syn::parse_file(source).unwrap());
    let said: BTreeSet<_> = paths.said.iter().map(|path| path.join("::")).collect();
    let expected =
        ["here::five", "here::six::call", "one", "one::Two", "seven::Eight::call", "three"];
    assert_eq!(said, BTreeSet::from(expected.map(str::to_owned)));
}
