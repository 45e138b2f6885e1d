//! The key space of a group. Every key begins with the group (eight bytes, big endian) and one byte for its space; keys
//! hold ids, numbers and keyed hashes only, never personal data.
//!
//! | space | key after it | value |
//! |---|---|---|
//! | `Position` | | the applied log id and membership (kept by the Raft adapter) |
//! | `Group` | | [`GroupState`](crate::registry::GroupState) |
//! | `Shard` | shard | [`ShardState`](crate::registry::ShardState) |
//! | `Author` | shard author branch | [`AuthorState`](crate::registry::AuthorState): how far a branch goes |
//! | `Edit` | shard branch number | [`StoredEdit`](crate::registry::StoredEdit) |
//! | `Arrival` | shard position | [`Arrival`](crate::registry::Arrival): the order in which edits came |
//! | `Record` | shard record | [`Record`](crate::record::Record) |
//! | `History` | shard record position | where an edit of the record lies |
//! | `Request` | session counter | [`Receipt`](crate::command::Receipt) |
//! | `Secret` | shard author session | the secrets that salt the commitments: one, unless a backup was restored in mid-session |
//! | `Conflict` | shard record conflict | when it was first seen |
//! | `Poison` | shard branch number | why the edit is set aside |
//! | `Cursor` | shard site | how far the stream of a neighbour site has been taken |
//! | `Statement` | shard site | the last signed statement of another site |
//! | `Seal` | shard position | the signature of its author's site over the edit that came at this position |
//! | `Index` | keyed hash, shard, record | nothing: a search term points to a record |
//! | `Number` | shard, keyed hash | the records of the shard with this personal number |
//! | `Session` | session | the last day on which one of its edits came |
//! | `Expiry` | day, session | nothing: from which day on its receipts go |
//! | `Access` | number | an entry of the access log |
//! | `Place` | kind id | an entry of the replicated directory of units and sites |
//!
//! A branch is its author, or what grew beside its author's first chain (`registry::family`); (branch, number) is where an
//! edit lies, here and nowhere else.

use crate::edit::Dot;
use crate::ids::{AuthorId, GroupId, RecordId, RequestId, SessionId, ShardId, SiteId};

/// The spaces, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// Kept by the Raft adapter; the registry never touches it.
    Position = 0,
    /// The group itself.
    Group = 1,
    /// Hosted shards.
    Shard = 2,
    /// How far authors' chains are held.
    Author = 3,
    /// The edit log.
    Edit = 4,
    /// The edit log in the order of arrival.
    Arrival = 5,
    /// Folded records.
    Record = 6,
    /// Edits by record.
    History = 7,
    /// Receipts by request.
    Request = 8,
    /// Secrets of sessions.
    Secret = 9,
    /// Open conflicts.
    Conflict = 10,
    /// Edits set aside.
    Poison = 11,
    /// Positions in neighbours' streams.
    Cursor = 12,
    /// Signed statements of other sites.
    Statement = 13,
    /// Words of author sites for the edits that came from neighbours.
    Seal = 14,
    /// Search.
    Index = 15,
    /// The access log.
    Access = 16,
    /// The directory of units and sites.
    Place = 17,
    /// Whose a personal number is.
    Number = 18,
    /// Sessions of which there are receipts.
    Session = 19,
    /// The same by the days on which they were used last.
    Expiry = 20,
}

/// Builds the keys of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys(pub GroupId);

/// A half-open range of keys.
pub type Range = (Vec<u8>, Vec<u8>);

impl Keys {
    /// All keys of the group.
    #[must_use]
    pub fn all(self) -> Range {
        let end = self.0.0.checked_add(1).map_or_else(|| vec![0xff; 9], |next| next.to_be_bytes().to_vec());
        (self.0.0.to_be_bytes().to_vec(), end)
    }

    fn start(self, space: Space) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(&self.0.0.to_be_bytes());
        key.push(space as u8);
        key
    }

    /// The key of `parts` in `space`.
    fn key(self, space: Space, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = self.start(space);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// All keys in `space` that begin with `parts`.
    fn range(self, space: Space, parts: &[&[u8]]) -> Range {
        let from = self.key(space, parts);
        let to = after_prefix(&from);
        (from, to)
    }

    /// The group itself.
    #[must_use]
    pub fn group(self) -> Vec<u8> {
        self.start(Space::Group)
    }

    /// A hosted shard.
    #[must_use]
    pub fn shard(self, shard: ShardId) -> Vec<u8> {
        self.key(Space::Shard, &[&shard.0.to_be_bytes()])
    }

    /// All hosted shards.
    #[must_use]
    pub fn shards(self) -> Range {
        self.range(Space::Shard, &[])
    }

    /// The first branch of an author.
    #[must_use]
    pub fn author(self, shard: ShardId, author: AuthorId) -> Vec<u8> {
        self.branch(shard, author, author)
    }

    /// A branch of an author.
    #[must_use]
    pub fn branch(self, shard: ShardId, author: AuthorId, branch: AuthorId) -> Vec<u8> {
        self.key(Space::Author, &[&shard.0.to_be_bytes(), &author.0, &branch.0])
    }

    /// All branches of an author.
    #[must_use]
    pub fn branches(self, shard: ShardId, author: AuthorId) -> Range {
        self.range(Space::Author, &[&shard.0.to_be_bytes(), &author.0])
    }

    /// All branches of all authors of a shard.
    #[must_use]
    pub fn authors(self, shard: ShardId) -> Range {
        self.range(Space::Author, &[&shard.0.to_be_bytes()])
    }

    /// The edit that lies at a place.
    #[must_use]
    pub fn edit(self, shard: ShardId, place: &Dot) -> Vec<u8> {
        self.key(Space::Edit, &[&shard.0.to_be_bytes(), &place.actor.0, &place.counter.to_be_bytes()])
    }

    /// An arrival; positions count from 1.
    #[must_use]
    pub fn arrival(self, shard: ShardId, position: u64) -> Vec<u8> {
        self.key(Space::Arrival, &[&shard.0.to_be_bytes(), &position.to_be_bytes()])
    }

    /// All arrivals of a shard at `from` and above.
    #[must_use]
    pub fn arrivals(self, shard: ShardId, from: u64) -> Range {
        (self.arrival(shard, from), self.range(Space::Arrival, &[&shard.0.to_be_bytes()]).1)
    }

    /// A record.
    #[must_use]
    pub fn record(self, shard: ShardId, record: RecordId) -> Vec<u8> {
        self.key(Space::Record, &[&shard.0.to_be_bytes(), &record.0])
    }

    /// The shard of a key of one of the group's records; none for another key.
    #[must_use]
    pub fn shard_of_record(self, key: &[u8]) -> Option<ShardId> {
        let rest = key.strip_prefix(&self.0.0.to_be_bytes())?.strip_prefix(&[Space::Record as u8])?;
        Some(ShardId(u64::from_be_bytes(*rest.first_chunk()?)))
    }

    /// All records of a shard.
    #[must_use]
    pub fn records(self, shard: ShardId) -> Range {
        self.range(Space::Record, &[&shard.0.to_be_bytes()])
    }

    /// One edit in a record's history.
    #[must_use]
    pub fn history_entry(self, shard: ShardId, record: RecordId, position: u64) -> Vec<u8> {
        self.key(Space::History, &[&shard.0.to_be_bytes(), &record.0, &position.to_be_bytes()])
    }

    /// A record's history in the order of arrival.
    #[must_use]
    pub fn history(self, shard: ShardId, record: RecordId) -> Range {
        self.range(Space::History, &[&shard.0.to_be_bytes(), &record.0])
    }

    /// A receipt.
    #[must_use]
    pub fn request(self, request: RequestId) -> Vec<u8> {
        self.key(Space::Request, &[&request.session.0, &request.counter.to_be_bytes()])
    }

    /// All receipts of a session.
    #[must_use]
    pub fn requests(self, session: SessionId) -> Range {
        self.range(Space::Request, &[&session.0])
    }

    /// The last day on which a session was used, counted from 1970.
    #[must_use]
    pub fn session(self, session: SessionId) -> Vec<u8> {
        self.key(Space::Session, &[&session.0])
    }

    /// That a session was used last on `day`.
    #[must_use]
    pub fn expiry(self, day: u32, session: SessionId) -> Vec<u8> {
        self.key(Space::Expiry, &[&day.to_be_bytes(), &session.0])
    }

    /// The sessions that were used last before `day`.
    #[must_use]
    pub fn expired(self, day: u32) -> Range {
        (self.start(Space::Expiry), self.key(Space::Expiry, &[&day.to_be_bytes()]))
    }

    /// A session's secret.
    #[must_use]
    pub fn secret(self, shard: ShardId, author: AuthorId, session: SessionId) -> Vec<u8> {
        self.key(Space::Secret, &[&shard.0.to_be_bytes(), &author.0, &session.0])
    }

    /// An open conflict; `conflict` is its encoded key.
    #[must_use]
    pub fn conflict(self, shard: ShardId, record: RecordId, conflict: &[u8]) -> Vec<u8> {
        self.key(Space::Conflict, &[&shard.0.to_be_bytes(), &record.0, conflict])
    }

    /// All open conflicts of a shard, or of one of its records.
    #[must_use]
    pub fn conflicts(self, shard: ShardId, record: Option<RecordId>) -> Range {
        let shard = shard.0.to_be_bytes();
        match record {
            Some(record) => self.range(Space::Conflict, &[&shard, &record.0]),
            None => self.range(Space::Conflict, &[&shard]),
        }
    }

    /// Why the edit at a place is set aside.
    #[must_use]
    pub fn poison(self, shard: ShardId, place: &Dot) -> Vec<u8> {
        self.key(Space::Poison, &[&shard.0.to_be_bytes(), &place.actor.0, &place.counter.to_be_bytes()])
    }

    /// All edits of a shard that are set aside.
    #[must_use]
    pub fn poisons(self, shard: ShardId) -> Range {
        self.range(Space::Poison, &[&shard.0.to_be_bytes()])
    }

    /// How far `peer`'s stream of a shard has been taken.
    #[must_use]
    pub fn cursor(self, shard: ShardId, peer: SiteId) -> Vec<u8> {
        self.key(Space::Cursor, &[&shard.0.to_be_bytes(), &peer.0.to_be_bytes()])
    }

    /// The last statement of `site` about a shard.
    #[must_use]
    pub fn statement(self, shard: ShardId, site: SiteId) -> Vec<u8> {
        self.key(Space::Statement, &[&shard.0.to_be_bytes(), &site.0.to_be_bytes()])
    }

    /// All statements about a shard.
    #[must_use]
    pub fn statements(self, shard: ShardId) -> Range {
        self.range(Space::Statement, &[&shard.0.to_be_bytes()])
    }

    /// The word of its author's site for the edit that came at `position`.
    #[must_use]
    pub fn seal(self, shard: ShardId, position: u64) -> Vec<u8> {
        self.key(Space::Seal, &[&shard.0.to_be_bytes(), &position.to_be_bytes()])
    }

    /// The records of a shard with one personal number, by its search term.
    #[must_use]
    pub fn number(self, shard: ShardId, number: &[u8; 16]) -> Vec<u8> {
        self.key(Space::Number, &[&shard.0.to_be_bytes(), number])
    }

    /// A search term's pointer to a record.
    #[must_use]
    pub fn index(self, term: &[u8; 16], shard: ShardId, record: RecordId) -> Vec<u8> {
        self.key(Space::Index, &[term, &shard.0.to_be_bytes(), &record.0])
    }

    /// All records to which a search term points.
    #[must_use]
    pub fn index_term(self, term: &[u8; 16]) -> Range {
        self.range(Space::Index, &[term])
    }

    /// All records of one shard to which a search term points.
    #[must_use]
    pub fn index_in(self, term: &[u8; 16], shard: ShardId) -> Range {
        self.range(Space::Index, &[term, &shard.0.to_be_bytes()])
    }

    /// An entry of the access log; numbers count from 1.
    #[must_use]
    pub fn access(self, number: u64) -> Vec<u8> {
        self.key(Space::Access, &[&number.to_be_bytes()])
    }

    /// The access log from `number` on.
    #[must_use]
    pub fn access_from(self, number: u64) -> Range {
        (self.access(number), self.range(Space::Access, &[]).1)
    }

    /// An entry of the directory.
    #[must_use]
    pub fn place(self, entry: &[u8]) -> Vec<u8> {
        self.key(Space::Place, &[entry])
    }

    /// The whole directory.
    #[must_use]
    pub fn places(self) -> Range {
        self.range(Space::Place, &[])
    }
}

/// The bytes after the fixed part of a key: what the variable end of it says.
#[must_use]
pub fn suffix(key: &[u8], fixed: usize) -> &[u8] {
    key.get(9 + fixed..).unwrap_or(&[])
}

/// The first key after all that begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; prefix.len() + 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_own_keys_and_no_neighbours() {
        let keys = Keys(GroupId(5));
        let (from, to) = keys.records(ShardId(u64::MAX));
        let inside = keys.record(ShardId(u64::MAX), RecordId([0xff; 16]));
        assert!(from <= inside && inside < to);
        assert!(keys.record(ShardId(u64::MAX - 1), RecordId([0xff; 16])) < from);
        assert!(keys.history_entry(ShardId(0), RecordId([0; 16]), 0) >= to);
        let (from, to) = keys.all();
        assert!(from <= keys.group() && keys.place(&[0xff; 4]) < to);
        assert!(Keys(GroupId(6)).group() >= to);
    }

    #[test]
    fn positions_sort_as_numbers() {
        let keys = Keys(GroupId(5));
        assert!(keys.arrival(ShardId(1), 255) < keys.arrival(ShardId(1), 256));
    }
}
