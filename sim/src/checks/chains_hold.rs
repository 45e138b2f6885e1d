//! Every author's edits are numbered without a gap and chained by hash, at every machine, and no command is split. A chain branches
//! only if its site lost what it had numbered, or its key was stolen.
//!
//! Does not check: that a hash covers its edit (`digests_true`), nor who signed what (`nothing_forged`).

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::ids::{Hash, SiteId};

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::ShardCopy;

pub struct ChainsHold;

fn broken(copy: &ShardCopy) -> Vec<String> {
    let mut found = Vec::new();
    // Numbers go on where a branch leaves its trunk.
    let before: BTreeMap<_, (u64, Hash)> = copy
        .authors
        .iter()
        .filter_map(|author| {
            let trunk = author.trunk.as_ref()?;
            let (hash, _) = copy.edits.get(trunk)?;
            Some((author_id(copy, author), (trunk.counter, *hash)))
        })
        .collect();
    let mut last: BTreeMap<_, (u64, Hash)> = BTreeMap::new();
    let mut whole: BTreeMap<_, u32> = BTreeMap::new();
    for (dot, (hash, edit)) in &copy.edits {
        let (number, previous) =
            last.get(&dot.actor).copied().or_else(|| before.get(&dot.actor).copied()).unwrap_or((0, Hash([0; 32])));
        if dot.counter != number + 1 {
            found.push(format!("{:?} follows number {number} of its author", dot));
        } else if edit.header.previous != previous {
            found.push(format!("{dot:?} names another edit before it than the one that is there"));
        }
        if edit.header.part != whole.get(&dot.actor).copied().unwrap_or(0) {
            found.push(format!("{dot:?} is part {} of its command, where another was due", edit.header.part));
        }
        whole.insert(dot.actor, if edit.header.part + 1 == edit.header.of { 0 } else { edit.header.part + 1 });
        last.insert(dot.actor, (dot.counter, *hash));
    }
    found
        .extend(whole.iter().filter(|(_, due)| **due != 0).map(|(actor, _)| format!("{actor} ends in half a command")));
    found
}

/// Chains that branch though their site never lost a number that it had given.
fn forked<'c>(copy: &'c ShardCopy, may_fork: &'c BTreeSet<SiteId>) -> impl Iterator<Item = String> + 'c {
    let branches = copy.authors.iter().filter(|author| author.trunk.is_some());
    let wrong = branches.filter(|author| !may_fork.contains(&author.author.site));
    wrong.map(|author| format!("the chain of {} branches, whose disk was never lost, nor its key", author.author.site))
}

fn author_id(copy: &ShardCopy, author: &dinhba_core::registry::AuthorState) -> dinhba_core::ids::AuthorId {
    // A branch lies under an id of its own, as its edits do.
    let first = author.trunk.as_ref().map(|trunk| trunk.counter + 1);
    let head = copy.edits.iter().find(|(dot, (hash, _))| dot.counter == author.number && *hash == author.hash);
    match (first, head) {
        (Some(_), Some((dot, _))) => dot.actor,
        _ => author.author.id(),
    }
}

impl Check for ChainsHold {
    fn promise(&self) -> Promise {
        Promise::ChainsHold
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let mut may_fork = world.stolen();
        may_fork.extend(world.lost().into_iter().map(|site| world.country.sites()[site].id));
        world.copies(|_, copy| forked(copy, &may_fork).chain(broken(copy)).collect())
    }
}
