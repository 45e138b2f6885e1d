//! Pages of what is long: a history, the change feed, an extract.

use std::collections::BTreeSet;

use dinhba_core::command::Statement;
use dinhba_core::edit::{Dot, Edit};
use dinhba_core::encoding::{Malformed, Wire};
use dinhba_core::ids::{RecordId, ShardId, SiteId};
use dinhba_core::keys::Keys;
use dinhba_core::record::Record;
use dinhba_core::registry::{Arrival, Names, Poison, ShardState, StoredEdit, corrupt, read, record_of};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::sync::{Here, Skip};
use dinhba_proto::v1;
use openraft_rt::watch::WatchReceiver;
use tonic::Status;

use super::{PAGE_BYTES, RecordsService, SHOWN_BYTES_MAX, chunk};
use crate::hosted::Hosted;
use crate::runtime::{self, watch};
use crate::service::answer::{broken, not_accepted};
use crate::service::convert::{entry_to_wire, record_to_wire, shown_bytes, standing_word};
use crate::service::ready;

/// Records in one message of an extract.
const EXPORT_PAGE: usize = 100;

/// Entries of the change feed read at once; also bounded by [`PAGE_BYTES`].
const WATCH_PAGE: usize = 100;

/// Edits in one page of a history; also bounded by [`PAGE_BYTES`]. Most records never have more.
pub(super) const HISTORY_PAGE: usize = 200;

impl RecordsService {
    /// Who is known to hold the edit that lies here at a place: this site, and those whose statements cover it.
    fn held_by(&self, held: &[(SiteId, Skip)], lies: &Dot) -> Vec<String> {
        let place = self.0.place();
        let others = held.iter().filter(|(_, held)| held.covers(lies)).map(|(site, _)| *site);
        let tiers: BTreeSet<_> = others
            .chain([self.0.site()])
            .filter_map(|site| self.0.tier_of(&place, site))
            .map(|tier| (std::cmp::Reverse(tier), tier.name()))
            .collect();
        tiers.into_iter().map(|(_, name)| name.to_owned()).collect()
    }

    /// The edits that lie at these places, or the first of them: as many as a page takes.
    /// How they stand is said of those of one record, whose history is shown.
    pub(super) fn entries(
        &self,
        hosted: &Hosted,
        shard: ShardId,
        (places, of): (&[Dot], Option<RecordId>),
    ) -> Result<Vec<v1::Entry>, Status> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let keys = hosted.keys();
        let found = hosted.look(|view| {
            let here = Here { view, keys };
            let holds = |said: Statement| Ok((said.body.site, here.known_to_hold(shard, &said.body.heads)?));
            let held: Result<Vec<_>, StoreError> = here.statements(shard)?.into_iter().map(holds).collect();
            let record: Option<Record> = match of {
                Some(of) => read(view, &keys.record(shard, of))?,
                None => None,
            };
            let (mut names, mut found, mut bytes) = (Names::new(view, keys, shard), Vec::new(), 0);
            for place in places {
                if bytes >= PAGE_BYTES {
                    break;
                }
                let key = keys.edit(shard, place);
                let stored: StoredEdit = read(view, &key)?
                    .ok_or_else(|| corrupt(&key, Malformed { what: "history: its edit is missing" }))?;
                let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?;
                bytes += stored.bytes.len();
                let name = names.of(&edit.dot(), &stored.hash)?;
                let poison: Option<Poison> = read(view, &keys.poison(shard, place))?;
                let standing = record.as_ref().map_or("", |record| standing_word(record, &name, &stored.hash));
                found.push((place, name, stored, edit, (poison, standing)));
            }
            Ok((held?, found))
        });
        let (held, found) = found.map_err(|error| broken(&error))?;
        let entries = found.into_iter().map(|(place, name, stored, edit, stands)| {
            let held_by = self.held_by(&held, place);
            entry_to_wire(&self.0, &name, &stored, &edit, stands, held_by)
        });
        Ok(entries.collect())
    }

    /// The next entries of a shard's change feed.
    pub(super) fn feed(&self, hosted: &Hosted, shard: ShardId, from: u64) -> Result<Vec<v1::Entry>, Status> {
        let places = hosted
            .look(|view| {
                let (from, to) = hosted.keys().arrivals(shard, from);
                view.scan(&from, &to)
                    .take(WATCH_PAGE)
                    .map(|item| {
                        let (key, value) = item?;
                        Ok(Arrival::from_bytes(&value).map_err(|error| corrupt(&key, error))?.dot)
                    })
                    .collect::<Result<Vec<Dot>, StoreError>>()
            })
            .map_err(|error| broken(&error))?;
        self.entries(hosted, shard, (&places, None))
    }

    /// Waits until the state of a group moves here; not, if the node stops. An error once it surely does not follow its group any
    /// more: who waits for what comes would wait in silence.
    pub(super) async fn has_moved(&self, hosted: &Hosted, moved: &mut watch::Receiver<u64>) -> Result<bool, Status> {
        loop {
            if self.0.is_stopping() {
                return Ok(false);
            }
            ready(&self.0)?;
            if let Some(why) = hosted.group.status().stopped {
                // What to do at a site of one the reason says.
                let advice = if self.0.has_others() { "; ask another one" } else { "" };
                return Err(not_accepted(format!("{} has stopped on this node: {why}{advice}", hosted.id())));
            }
            if let Ok(changed) = runtime::timeout(self.0.rhythm(), WatchReceiver::changed(moved)).await {
                return Ok(changed.is_ok());
            }
        }
    }

    /// The next page of an extract, and where the one after it begins.
    pub(super) fn export_page(
        &self,
        hosted: &Hosted,
        shard: &ShardState,
        from: Option<Vec<u8>>,
    ) -> Result<(Vec<v1::Record>, Option<Vec<u8>>), Status> {
        let (start, to) = hosted.keys().records(shard.info.shard);
        let from = from.unwrap_or(start);
        let (page, is_full) = hosted
            .look(|view| {
                let (mut page, mut bytes) = (Vec::new(), 0);
                for item in view.scan(&from, &to) {
                    let (key, value) = item?;
                    let record = Record::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
                    bytes += shown_bytes(&record);
                    page.push((key, record));
                    if page.len() == EXPORT_PAGE || bytes >= SHOWN_BYTES_MAX {
                        return Ok((page, true));
                    }
                }
                Ok((page, false))
            })
            .map_err(|error| broken(&error))?;
        let at = (&shard.info, hosted.level().map_err(|error| broken(&error))?);
        let next = page.last().map(|(key, _)| [key.as_slice(), &[0]].concat()).filter(|_| is_full);
        let records: Result<Vec<v1::Record>, StoreError> =
            page.iter().map(|(key, record)| Ok(record_to_wire(&self.0, at, record_of(key)?, record))).collect();
        Ok((records.map_err(|error| broken(&error))?, next))
    }
}

/// Positions and names of the edits of a record from a position on: those of a page, and one more.
pub(super) fn history_from(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    record: RecordId,
    from: u64,
) -> Result<Vec<(u64, Dot)>, StoreError> {
    let to = keys.history(shard, record).1;
    view.scan(&keys.history_entry(shard, record, from), &to)
        .take(HISTORY_PAGE + 1)
        .map(|item| {
            let (key, value) = item?;
            let dot = Dot::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            Ok((u64::from_be_bytes(chunk(&key, 16)?), dot))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use dinhba_core::ids::{AuthorId, GroupId};
    use dinhba_core::store::{Batch, StateEngine};

    use super::*;
    use crate::raft::test_support::MemoryState;

    #[test]
    fn a_history_goes_on_where_a_page_ended() {
        let (state, keys) = (MemoryState::default(), Keys(GroupId(1)));
        let (shard, record) = (ShardId(1), RecordId([7; 16]));
        let dot = |counter| Dot { actor: AuthorId([1; 16]), counter };
        let count = HISTORY_PAGE as u64 * 2 + 5;
        let mut batch = Batch::default();
        (1..=count).for_each(|at| batch.put(keys.history_entry(shard, record, 3 * at), dot(at).to_bytes()));
        batch.put(keys.history_entry(shard, RecordId([8; 16]), 1), dot(1).to_bytes());
        state.apply(batch).unwrap();
        let (mut seen, mut from, mut pages) = (Vec::new(), 0, 0);
        loop {
            let mut page = history_from(&state, keys, shard, record, from).unwrap();
            let next = page.get(HISTORY_PAGE).map(|(position, _)| *position);
            page.truncate(HISTORY_PAGE);
            seen.extend(page.into_iter().map(|(_, dot)| dot.counter));
            pages += 1;
            let Some(next) = next else { break };
            from = next;
        }
        assert_eq!((seen, pages), ((1..=count).collect(), 3));
    }
}
