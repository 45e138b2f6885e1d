//! The key space of a group. Every key begins with the group (eight bytes, big endian). What belongs to the group itself goes on
//! with a one and a byte for its space; what belongs to a shard with a two, the shard (eight bytes) and a byte for its space.
//! (A zero is the Raft adapter's.) So a shard is one range, [`Keys::of_shard`], with all that was ever said of it: its edits and
//! records, index, receipts, cursors and statements lie together, and it can be moved by copying that range and one entry of the
//! group, its [`ShardState`](crate::registry::ShardState). Keys hold ids, numbers and keyed hashes only, never personal data.
//!
//! The group's own:
//!
//! | space | key after it | value |
//! |---|---|---|
//! | `Group` | | [`GroupState`](crate::registry::GroupState) |
//! | `Shard` | shard | [`ShardState`](crate::registry::ShardState): its place, author, counts and digests. Every edit writes it, and whoever lists shards reads all of them, so it stands apart from what the shard holds |
//! | `Home` | record | the shards of the group that have the record: one, but for an error |
//! | `Term` | half a keyed hash, shard | nothing: the shard's index has a term that begins so |
//! | `Expiry` | day, shard, session | nothing: from which day on the session's receipts go |
//! | `Access` | number | an entry of the access log |
//! | `Place` | kind id | an entry of the replicated directory of units and sites |
//! | `Heard` | site, its group, incarnation | [`AccessSeen`](crate::access_log::AccessSeen): where another site's access log stands |
//! | `Reach` | unit | nothing: a hosted shard lies in that unit |
//! | `Due` | kind of work, day, shard | nothing: the shard's work lists have something of that kind that is open since that day |
//!
//! `Home`, `Term`, `Expiry` and `Due` are signposts: they say nothing that the shards do not say, and are made again from a shard's range
//! where it is taken in (`registry::signposts`).
//!
//! A shard's:
//!
//! | space | key after it | value |
//! |---|---|---|
//! | `Author` | author branch | [`AuthorState`](crate::registry::AuthorState): how far a branch goes |
//! | `Edit` | branch number | [`StoredEdit`](crate::registry::StoredEdit) |
//! | `Arrival` | position | [`Arrival`](crate::registry::Arrival): the order in which edits came |
//! | `Record` | record | [`Record`](crate::record::Record) |
//! | `History` | record position | where an edit of the record lies |
//! | `Request` | session counter | [`Receipt`](crate::command::Receipt) |
//! | `Session` | session | the last day on which one of its edits came |
//! | `Secret` | author session | the secrets that salt the commitments: one, unless a backup was restored in mid-session |
//! | `Conflict` | record conflict | when it was first seen |
//! | `Poison` | branch number | why the edit is set aside |
//! | `Cursor` | site | how far the stream of a neighbour site has been taken |
//! | `Statement` | site | the last signed statement of another site |
//! | `Former` | site | the last signed statement of that site in an earlier life that said the most |
//! | `Seal` | position | the signature of its author's site over the edit that came at this position |
//! | `Index` | keyed hash, record | nothing: a search term points to a record |
//! | `Number` | keyed hash | the records of the shard with this personal number |
//! | `Life` | site | the site's lives as an author of the shard, in the order in which they came |
//! | `Beside` | session counter | nothing: an edit of the request lies on a branch beside its author's first chain |
//! | `Pending` | record name | [`PendingEntry`](crate::command::PendingEntry): an edit of the record waits for a second person |
//! | `Taken` | series, page | [`Taken`](crate::blocks::Taken): which numbers of a series some edit of the shard ever wrote |
//! | `Block` | series, first serial, record | [`Granted`](crate::blocks::Granted): a block that this ancestor shard grants |
//! | `Target` | unit, record | [`Target`](crate::targets::Target): a target that this ancestor shard sets for the unit |
//! | `Unnumbered` | record | since when a personal number is due to the person; nothing, if his was cancelled |
//! | `Work` | kind of work, day, record, item | nothing: an entry of the shard's work lists |
//! | `Figure` | day, event | how many of these events came on that day |
//! | `Coming` | day | how many fields records must have from that day on, and how many of these are filled |
//! | `Stock` | what, days | how many cards, accounts or steps of dossiers are in that state since then |
//!
//! Free for what is to come, in a shard and apart from the counts in its `ShardState`: 0x20 for pointers to where records moved,
//! 0x32 for sketches. In the group itself, 0x0b to 0x0f.
//!
//! A branch is its author, or what grew beside its author's first chain (`registry::branches`); (branch, number) is where an
//! edit lies, here and nowhere else.

use crate::blocks::Block;
use crate::date::Date;
use crate::edit::Dot;
use crate::encoding::Wire;
use crate::event::Event;
use crate::ids::{AuthorId, GroupId, Incarnation, RecordId, RequestId, SessionId, ShardId, SiteId, UnitId};
use crate::number::Series;
use crate::stock::{Counted, Stock};
use crate::work::{Entry, Work};

/// The spaces, in key order: below 0x10 the group's own, the others a shard's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// The group itself.
    Group = 0x01,
    /// Hosted shards.
    Shard = 0x02,
    /// In which shards a record is.
    Home = 0x03,
    /// Which shards have something under a search term.
    Term = 0x04,
    /// Sessions by the days on which they were used last.
    Expiry = 0x05,
    /// The access log.
    Access = 0x06,
    /// The directory of units and sites.
    Place = 0x07,
    /// Where the access logs of other sites stand.
    Heard = 0x08,
    /// Units that hosted shards lie in.
    Reach = 0x09,
    /// Which shards have something to do, by kind and day.
    Due = 0x0a,
    /// How far authors' chains are held.
    Author = 0x10,
    /// The edit log.
    Edit = 0x11,
    /// The edit log in the order of arrival.
    Arrival = 0x12,
    /// Folded records.
    Record = 0x13,
    /// Edits by record.
    History = 0x14,
    /// Receipts by request.
    Request = 0x15,
    /// Sessions of which there are receipts.
    Session = 0x16,
    /// Secrets of sessions.
    Secret = 0x17,
    /// Open conflicts.
    Conflict = 0x18,
    /// Edits set aside.
    Poison = 0x19,
    /// Positions in neighbours' streams.
    Cursor = 0x1a,
    /// Signed statements of other sites.
    Statement = 0x1b,
    /// Words of author sites for the edits that came from neighbours.
    Seal = 0x1c,
    /// Search.
    Index = 0x1d,
    /// Whose a personal number is.
    Number = 0x1e,
    /// Lives of sites.
    Life = 0x1f,
    /// Edits that wait for a second person.
    Pending = 0x21,
    /// Which numbers are spoken for.
    Taken = 0x22,
    /// Requests of edits beside their author's first chain.
    Beside = 0x23,
    /// Signed statements of other sites in their earlier lives.
    Former = 0x24,
    /// Blocks of numbers that are granted.
    Block = 0x25,
    /// To whom a number is due.
    Unnumbered = 0x26,
    /// What is to be done, by kind and day.
    Work = 0x27,
    /// Targets that are set.
    Target = 0x28,
    /// How many events there were, by day.
    Figure = 0x30,
    /// What records must have from a day on.
    Coming = 0x31,
    /// How many cards, accounts and steps are in which state.
    Stock = 0x33,
}

/// After the group in a key of the group's own.
const OWN: u8 = 1;

/// After the group in a key of a shard.
const SHARD: u8 = 2;

/// Bytes before the parts of a key of the group's own.
const OWN_BYTES: usize = 8 + 1 + 1;

/// Bytes before the parts of a key of a shard.
const SHARD_BYTES: usize = 8 + 1 + 8 + 1;

/// Bytes of a search term in a signpost: half of them tell terms apart as well, since one that leads astray costs an empty look,
/// and the signposts of a whole country lie in one group.
const SIGN_BYTES: usize = 8;

/// A day, in order.
fn day_bytes(day: Date) -> [u8; 4] {
    let days = day.days() - Date::MIN.days();
    u32::try_from(days).unwrap_or(0).to_be_bytes()
}

/// The day in a key.
pub(crate) fn day_of(bytes: [u8; 4]) -> Date {
    Date::from_days(Date::MIN.days() + i64::from(u32::from_be_bytes(bytes)))
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

    /// All of a shard, but for its [`ShardState`](crate::registry::ShardState) and the group's signposts.
    #[must_use]
    pub fn of_shard(self, shard: ShardId) -> Range {
        let from = [&self.0.0.to_be_bytes()[..], &[SHARD], &shard.0.to_be_bytes()].concat();
        let to = after_prefix(&from);
        (from, to)
    }

    /// The key of `parts` in a space of the group's own.
    fn own(self, space: Space, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(&self.0.0.to_be_bytes());
        key.extend_from_slice(&[OWN, space as u8]);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// The key of `parts` in a space of a shard.
    fn key(self, shard: ShardId, space: Space, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(&self.0.0.to_be_bytes());
        key.push(SHARD);
        key.extend_from_slice(&shard.0.to_be_bytes());
        key.push(space as u8);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// All keys in a space of the group's own that begin with `parts`.
    fn own_range(self, space: Space, parts: &[&[u8]]) -> Range {
        let from = self.own(space, parts);
        let to = after_prefix(&from);
        (from, to)
    }

    /// All keys in a space of a shard that begin with `parts`.
    fn range(self, shard: ShardId, space: Space, parts: &[&[u8]]) -> Range {
        let from = self.key(shard, space, parts);
        let to = after_prefix(&from);
        (from, to)
    }

    /// The group itself.
    #[must_use]
    pub fn group(self) -> Vec<u8> {
        self.own(Space::Group, &[])
    }

    /// That a hosted shard lies in a unit.
    #[must_use]
    pub fn reach(self, unit: UnitId) -> Vec<u8> {
        self.own(Space::Reach, &[&unit.0.to_be_bytes()])
    }

    /// A hosted shard.
    #[must_use]
    pub fn shard(self, shard: ShardId) -> Vec<u8> {
        self.own(Space::Shard, &[&shard.0.to_be_bytes()])
    }

    /// All hosted shards.
    #[must_use]
    pub fn shards(self) -> Range {
        self.own_range(Space::Shard, &[])
    }

    /// The first branch of an author.
    #[must_use]
    pub fn author(self, shard: ShardId, author: AuthorId) -> Vec<u8> {
        self.branch(shard, author, author)
    }

    /// A branch of an author.
    #[must_use]
    pub fn branch(self, shard: ShardId, author: AuthorId, branch: AuthorId) -> Vec<u8> {
        self.key(shard, Space::Author, &[&author.0, &branch.0])
    }

    /// All branches of an author.
    #[must_use]
    pub fn branches(self, shard: ShardId, author: AuthorId) -> Range {
        self.range(shard, Space::Author, &[&author.0])
    }

    /// All branches of all authors of a shard.
    #[must_use]
    pub fn authors(self, shard: ShardId) -> Range {
        self.range(shard, Space::Author, &[])
    }

    /// The edit that lies at a place.
    #[must_use]
    pub fn edit(self, shard: ShardId, place: &Dot) -> Vec<u8> {
        self.key(shard, Space::Edit, &[&place.actor.0, &place.counter.to_be_bytes()])
    }

    /// All edits of a shard, by where they lie.
    #[must_use]
    pub fn edits(self, shard: ShardId) -> Range {
        self.range(shard, Space::Edit, &[])
    }

    /// An arrival; positions count from 1.
    #[must_use]
    pub fn arrival(self, shard: ShardId, position: u64) -> Vec<u8> {
        self.key(shard, Space::Arrival, &[&position.to_be_bytes()])
    }

    /// All arrivals of a shard at `from` and above.
    #[must_use]
    pub fn arrivals(self, shard: ShardId, from: u64) -> Range {
        (self.arrival(shard, from), self.range(shard, Space::Arrival, &[]).1)
    }

    /// A record.
    #[must_use]
    pub fn record(self, shard: ShardId, record: RecordId) -> Vec<u8> {
        self.key(shard, Space::Record, &[&record.0])
    }

    /// The shard of a key of one of the group's records; none for another key.
    #[must_use]
    pub fn shard_of_record(self, key: &[u8]) -> Option<ShardId> {
        let rest = key.strip_prefix(&self.0.0.to_be_bytes())?.strip_prefix(&[SHARD])?;
        let (shard, rest) = rest.split_first_chunk()?;
        rest.starts_with(&[Space::Record as u8]).then(|| ShardId(u64::from_be_bytes(*shard)))
    }

    /// The shard of which there is news for a neighbour if this key is written: edits came, or a site stated what it holds.
    #[must_use]
    pub fn shard_that_moves(self, key: &[u8]) -> Option<ShardId> {
        let rest = key.strip_prefix(&self.0.0.to_be_bytes())?;
        let shard = match rest.strip_prefix(&[OWN, Space::Shard as u8]) {
            Some(shard) => shard.first_chunk()?,
            None => {
                let (shard, rest) = rest.strip_prefix(&[SHARD])?.split_first_chunk()?;
                rest.starts_with(&[Space::Statement as u8]).then_some(shard)?
            }
        };
        Some(ShardId(u64::from_be_bytes(*shard)))
    }

    /// All records of a shard.
    #[must_use]
    pub fn records(self, shard: ShardId) -> Range {
        self.range(shard, Space::Record, &[])
    }

    /// One edit in a record's history.
    #[must_use]
    pub fn history_entry(self, shard: ShardId, record: RecordId, position: u64) -> Vec<u8> {
        self.key(shard, Space::History, &[&record.0, &position.to_be_bytes()])
    }

    /// A record's history in the order of arrival.
    #[must_use]
    pub fn history(self, shard: ShardId, record: RecordId) -> Range {
        self.range(shard, Space::History, &[&record.0])
    }

    /// A receipt of the shard.
    #[must_use]
    pub fn request(self, shard: ShardId, request: RequestId) -> Vec<u8> {
        self.key(shard, Space::Request, &[&request.session.0, &request.counter.to_be_bytes()])
    }

    /// All receipts of a session in a shard.
    #[must_use]
    pub fn requests(self, shard: ShardId, session: SessionId) -> Range {
        self.range(shard, Space::Request, &[&session.0])
    }

    /// The last day on which a session was used in a shard, counted from 1970.
    #[must_use]
    pub fn session(self, shard: ShardId, session: SessionId) -> Vec<u8> {
        self.key(shard, Space::Session, &[&session.0])
    }

    /// All sessions of which the shard has receipts.
    #[must_use]
    pub fn sessions(self, shard: ShardId) -> Range {
        self.range(shard, Space::Session, &[])
    }

    /// That a session was used last on `day` in a shard.
    #[must_use]
    pub fn expiry(self, day: u32, shard: ShardId, session: SessionId) -> Vec<u8> {
        self.own(Space::Expiry, &[&day.to_be_bytes(), &shard.0.to_be_bytes(), &session.0])
    }

    /// The sessions that were used last before `day`, in any shard.
    #[must_use]
    pub fn expired(self, day: u32) -> Range {
        (self.own(Space::Expiry, &[]), self.own(Space::Expiry, &[&day.to_be_bytes()]))
    }

    /// A session's secret.
    #[must_use]
    pub fn secret(self, shard: ShardId, author: AuthorId, session: SessionId) -> Vec<u8> {
        self.key(shard, Space::Secret, &[&author.0, &session.0])
    }

    /// An open conflict; `conflict` is its encoded key.
    #[must_use]
    pub fn conflict(self, shard: ShardId, record: RecordId, conflict: &[u8]) -> Vec<u8> {
        self.key(shard, Space::Conflict, &[&record.0, conflict])
    }

    /// All open conflicts of a shard, or of one of its records.
    #[must_use]
    pub fn conflicts(self, shard: ShardId, record: Option<RecordId>) -> Range {
        match record {
            Some(record) => self.range(shard, Space::Conflict, &[&record.0]),
            None => self.range(shard, Space::Conflict, &[]),
        }
    }

    /// The lives of a site as an author of a shard.
    #[must_use]
    pub fn lives(self, shard: ShardId, site: SiteId) -> Vec<u8> {
        self.key(shard, Space::Life, &[&site.0.to_be_bytes()])
    }

    /// That an edit of a request lies beside its author's first chain.
    #[must_use]
    pub fn beside(self, shard: ShardId, request: RequestId) -> Vec<u8> {
        self.key(shard, Space::Beside, &[&request.session.0, &request.counter.to_be_bytes()])
    }

    /// That an edit of a record, by its name, waits for a second person.
    #[must_use]
    pub fn pending(self, shard: ShardId, record: RecordId, name: &Dot) -> Vec<u8> {
        self.key(shard, Space::Pending, &[&record.0, &name.actor.0, &name.counter.to_be_bytes()])
    }

    /// All edits of a shard, or of one of its records, that wait for a second person.
    #[must_use]
    pub fn all_pending(self, shard: ShardId, record: Option<RecordId>) -> Range {
        match record {
            Some(record) => self.range(shard, Space::Pending, &[&record.0]),
            None => self.range(shard, Space::Pending, &[]),
        }
    }

    /// Why the edit at a place is set aside.
    #[must_use]
    pub fn poison(self, shard: ShardId, place: &Dot) -> Vec<u8> {
        self.key(shard, Space::Poison, &[&place.actor.0, &place.counter.to_be_bytes()])
    }

    /// All edits of a shard that are set aside.
    #[must_use]
    pub fn poisons(self, shard: ShardId) -> Range {
        self.range(shard, Space::Poison, &[])
    }

    /// How far `peer`'s stream of a shard has been taken.
    #[must_use]
    pub fn cursor(self, shard: ShardId, peer: SiteId) -> Vec<u8> {
        self.key(shard, Space::Cursor, &[&peer.0.to_be_bytes()])
    }

    /// The last statement of `site` about a shard.
    #[must_use]
    pub fn statement(self, shard: ShardId, site: SiteId) -> Vec<u8> {
        self.key(shard, Space::Statement, &[&site.0.to_be_bytes()])
    }

    /// What `site` said of a shard in an earlier life.
    #[must_use]
    pub fn former(self, shard: ShardId, site: SiteId) -> Vec<u8> {
        self.key(shard, Space::Former, &[&site.0.to_be_bytes()])
    }

    /// The same of all sites.
    #[must_use]
    pub fn formers(self, shard: ShardId) -> Range {
        self.range(shard, Space::Former, &[])
    }

    /// All statements about a shard.
    #[must_use]
    pub fn statements(self, shard: ShardId) -> Range {
        self.range(shard, Space::Statement, &[])
    }

    /// The word of its author's site for the edit that came at `position`.
    #[must_use]
    pub fn seal(self, shard: ShardId, position: u64) -> Vec<u8> {
        self.key(shard, Space::Seal, &[&position.to_be_bytes()])
    }

    /// The records of a shard with one personal number, by its search term.
    #[must_use]
    pub fn number(self, shard: ShardId, number: &[u8; 16]) -> Vec<u8> {
        self.key(shard, Space::Number, &[number])
    }

    /// Which serials of a page of a series are spoken for.
    #[must_use]
    pub fn taken(self, shard: ShardId, series: Series, page: u16) -> Vec<u8> {
        self.key(shard, Space::Taken, &[&series.key_bytes(), &page.to_be_bytes()])
    }

    /// The pages of a series, or of all.
    #[must_use]
    pub fn all_taken(self, shard: ShardId, series: Option<Series>) -> Range {
        self.of_series(shard, Space::Taken, series)
    }

    /// A block that an ancestor shard grants.
    #[must_use]
    pub fn block(self, shard: ShardId, block: &Block, record: RecordId) -> Vec<u8> {
        self.key(shard, Space::Block, &[&block.series.key_bytes(), &block.first.to_be_bytes(), &record.0])
    }

    /// The blocks of a series, or of all, that an ancestor shard grants.
    #[must_use]
    pub fn blocks(self, shard: ShardId, series: Option<Series>) -> Range {
        self.of_series(shard, Space::Block, series)
    }

    fn of_series(self, shard: ShardId, space: Space, series: Option<Series>) -> Range {
        match series {
            Some(series) => self.range(shard, space, &[&series.key_bytes()]),
            None => self.range(shard, space, &[]),
        }
    }

    /// A target that an ancestor shard sets for a unit.
    #[must_use]
    pub fn target(self, shard: ShardId, unit: UnitId, record: RecordId) -> Vec<u8> {
        self.key(shard, Space::Target, &[&unit.0.to_be_bytes(), &record.0])
    }

    /// The targets that an ancestor shard sets for a unit, or for all.
    #[must_use]
    pub fn targets(self, shard: ShardId, unit: Option<UnitId>) -> Range {
        match unit {
            Some(unit) => self.range(shard, Space::Target, &[&unit.0.to_be_bytes()]),
            None => self.range(shard, Space::Target, &[]),
        }
    }

    /// That a person lacks a number.
    #[must_use]
    pub fn unnumbered(self, shard: ShardId, record: RecordId) -> Vec<u8> {
        self.key(shard, Space::Unnumbered, &[&record.0])
    }

    /// All persons of a shard who lack a number.
    #[must_use]
    pub fn all_unnumbered(self, shard: ShardId) -> Range {
        self.range(shard, Space::Unnumbered, &[])
    }

    /// An entry of a shard's work lists.
    #[must_use]
    pub fn work(self, shard: ShardId, entry: &Entry) -> Vec<u8> {
        let Entry { work, since, record, item } = entry;
        self.key(shard, Space::Work, &[&[work.code()], &day_bytes(*since), &record.0, item])
    }

    /// What is to be done of a kind in a shard since one day.
    #[must_use]
    pub fn work_on(self, shard: ShardId, work: Work, since: Date) -> Range {
        self.range(shard, Space::Work, &[&[work.code()], &day_bytes(since)])
    }

    /// What is to be done of a kind in a shard, since one of these days, both included.
    #[must_use]
    pub fn work_between(self, shard: ShardId, work: Work, (first, last): (Date, Date)) -> Range {
        (self.work_on(shard, work, first).0, self.work_on(shard, work, last).1)
    }

    /// All work lists of a shard.
    #[must_use]
    pub fn all_work(self, shard: ShardId) -> Range {
        self.range(shard, Space::Work, &[])
    }

    /// The signpost to what is to be done of a kind in a shard since one day.
    #[must_use]
    pub fn due(self, work: Work, since: Date, shard: ShardId) -> Vec<u8> {
        self.own(Space::Due, &[&[work.code()], &day_bytes(since), &shard.0.to_be_bytes()])
    }

    /// The signposts to what is to be done of a kind since one of these days, both included.
    #[must_use]
    pub fn dues_between(self, work: Work, (first, last): (Date, Date)) -> Range {
        let from = self.own(Space::Due, &[&[work.code()], &day_bytes(first)]);
        (from, self.own_range(Space::Due, &[&[work.code()], &day_bytes(last)]).1)
    }

    /// A search term's pointer to a record.
    #[must_use]
    pub fn index(self, shard: ShardId, term: &[u8; 16], record: RecordId) -> Vec<u8> {
        self.key(shard, Space::Index, &[term, &record.0])
    }

    /// How many of an event there were on a day; days before the first date count as that.
    #[must_use]
    pub fn figure(self, shard: ShardId, day: Date, event: Event) -> Vec<u8> {
        self.key(shard, Space::Figure, &[&day_bytes(day), &event.to_bytes()])
    }

    /// The figures of the days from one to another, both included.
    #[must_use]
    pub fn figures(self, shard: ShardId, from: Date, to: Date) -> Range {
        let start = self.key(shard, Space::Figure, &[&day_bytes(from)]);
        (start, self.range(shard, Space::Figure, &[&day_bytes(to)]).1)
    }

    /// What records must have from a day on.
    #[must_use]
    pub fn coming(self, shard: ShardId, day: Date) -> Vec<u8> {
        self.key(shard, Space::Coming, &[&day_bytes(day)])
    }

    /// The same of all days.
    #[must_use]
    pub fn all_coming(self, shard: ShardId) -> Range {
        self.range(shard, Space::Coming, &[])
    }

    /// How many there are in a state.
    #[must_use]
    pub fn stock(self, shard: ShardId, counted: &Counted) -> Vec<u8> {
        let Counted { stock, day, began } = *counted;
        self.key(shard, Space::Stock, &[&stock.code(), &day_bytes(day), &day_bytes(began)])
    }

    /// All of these; of steps that are done, those that were from one day to another, both included.
    pub fn stocks(self, shard: ShardId, done: (Date, Date)) -> impl Iterator<Item = Range> {
        let of = move |(stock, first, last): (Stock, Date, Date)| {
            let from = self.key(shard, Space::Stock, &[&stock.code(), &day_bytes(first)]);
            (from, self.range(shard, Space::Stock, &[&stock.code(), &day_bytes(last)]).1)
        };
        Stock::all()
            .map(move |stock| match stock {
                Stock::Done(..) => (stock, done.0, done.1),
                _ => (stock, Date::MIN, Date::MAX),
            })
            .map(of)
    }

    /// The whole index of a shard.
    #[must_use]
    pub fn indexes(self, shard: ShardId) -> Range {
        self.range(shard, Space::Index, &[])
    }

    /// All records of a shard to which a search term points.
    #[must_use]
    pub fn index_term(self, shard: ShardId, term: &[u8; 16]) -> Range {
        self.range(shard, Space::Index, &[term])
    }

    /// Everything in the index of a shard for which the signpost of a term stands.
    #[must_use]
    pub fn index_signed(self, shard: ShardId, term: &[u8; 16]) -> Range {
        self.range(shard, Space::Index, &[&term[..SIGN_BYTES]])
    }

    /// The signpost of a term: that a shard has something under it.
    #[must_use]
    pub fn term(self, term: &[u8; 16], shard: ShardId) -> Vec<u8> {
        self.own(Space::Term, &[&term[..SIGN_BYTES], &shard.0.to_be_bytes()])
    }

    /// The shards that have something under a term, from `shard` on; seldom one that has not.
    #[must_use]
    pub fn terms_from(self, term: &[u8; 16], shard: ShardId) -> Range {
        (self.term(term, shard), self.own_range(Space::Term, &[&term[..SIGN_BYTES]]).1)
    }

    /// In which shards of the group a record is.
    #[must_use]
    pub fn home(self, record: RecordId) -> Vec<u8> {
        self.own(Space::Home, &[&record.0])
    }

    /// An entry of the access log; numbers count from 1.
    #[must_use]
    pub fn access(self, number: u64) -> Vec<u8> {
        self.own(Space::Access, &[&number.to_be_bytes()])
    }

    /// The access log from `number` on.
    #[must_use]
    pub fn access_from(self, number: u64) -> Range {
        (self.access(number), self.own_range(Space::Access, &[]).1)
    }

    /// An entry of the directory.
    #[must_use]
    pub fn place(self, entry: &[u8]) -> Vec<u8> {
        self.own(Space::Place, &[entry])
    }

    /// Where the access log of another site's group stands, of one incarnation.
    #[must_use]
    pub fn heard(self, site: SiteId, group: GroupId, incarnation: Incarnation) -> Vec<u8> {
        self.own(Space::Heard, &[&site.0.to_be_bytes(), &group.0.to_be_bytes(), &incarnation.0])
    }

    /// All access logs of one other site.
    #[must_use]
    pub fn heard_of(self, site: SiteId) -> Range {
        self.own_range(Space::Heard, &[&site.0.to_be_bytes()])
    }

    /// All access logs of other sites.
    #[must_use]
    pub fn heard_all(self) -> Range {
        self.own_range(Space::Heard, &[])
    }

    /// The whole directory.
    #[must_use]
    pub fn places(self) -> Range {
        self.own_range(Space::Place, &[])
    }
}

/// The space of a key, as a number; none of one that is not of these.
#[must_use]
pub fn space_of(key: &[u8]) -> Option<u8> {
    match *key.get(8)? {
        OWN => key.get(OWN_BYTES - 1).copied(),
        SHARD => key.get(SHARD_BYTES - 1).copied(),
        _ => None,
    }
}

/// The bytes of a shard's key after its space and `fixed` more: what the variable end of it says.
#[must_use]
pub fn suffix(key: &[u8], fixed: usize) -> &[u8] {
    key.get(SHARD_BYTES + fixed..).unwrap_or(&[])
}

/// The same of a key of the group's own.
#[must_use]
pub fn own_suffix(key: &[u8], fixed: usize) -> &[u8] {
    key.get(OWN_BYTES + fixed..).unwrap_or(&[])
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
        assert!(keys.history_entry(ShardId(u64::MAX), RecordId([0; 16]), 0) >= to);
        let (from, to) = keys.all();
        assert!(from <= keys.group() && keys.seal(ShardId(u64::MAX), u64::MAX) < to);
        assert!(Keys(GroupId(6)).group() >= to);
    }

    #[test]
    fn a_shard_is_one_range_and_the_groups_own_lies_before_all_shards() {
        let keys = Keys(GroupId(5));
        let (from, to) = keys.of_shard(ShardId(7));
        assert!(keys.of_shard(ShardId(6)).1 <= from && to <= keys.of_shard(ShardId(8)).0);
        let of_shard = [keys.authors(ShardId(7)).0, keys.number(ShardId(7), &[0xff; 16])];
        assert!(of_shard.iter().all(|key| from <= *key && *key < to));
        let own = [keys.group(), keys.shard(ShardId(7)), keys.home(RecordId([7; 16])), keys.place(&[0xff; 40])];
        assert!(own.iter().all(|key| *key < keys.of_shard(ShardId(0)).0));
        assert_eq!(keys.shard_of_record(&keys.record(ShardId(7), RecordId([1; 16]))), Some(ShardId(7)));
        let others = [keys.history_entry(ShardId(7), RecordId([1; 16]), 1), keys.shard(ShardId(7)), keys.group()];
        assert!(others.iter().all(|key| keys.shard_of_record(key).is_none()));
        assert_eq!(space_of(&keys.conflict(ShardId(7), RecordId([1; 16]), b"c")), Some(Space::Conflict as u8));
        assert_eq!(space_of(&keys.home(RecordId([1; 16]))), Some(Space::Home as u8));
    }

    #[test]
    fn a_shard_moves_by_its_own_entry_and_by_statements() {
        let (keys, shard) = (Keys(GroupId(5)), ShardId(7));
        let moves = [keys.shard(shard), keys.statement(shard, SiteId(1))];
        assert!(moves.iter().all(|key| keys.shard_that_moves(key) == Some(shard)));
        let rests = [keys.record(shard, RecordId([1; 16])), keys.group(), Keys(GroupId(6)).shard(shard)];
        assert!(rests.iter().all(|key| keys.shard_that_moves(key).is_none()));
    }

    #[test]
    fn positions_sort_as_numbers() {
        let keys = Keys(GroupId(5));
        assert!(keys.arrival(ShardId(1), 255) < keys.arrival(ShardId(1), 256));
    }
}
