//! The messages of a link, in the canonical encoding. `proto/LINK.md` describes them for other implementations.

use crate::command::{Checked, Cursor, Epoch, Heads, Item, MergeCommand, Seal, Statement};
use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::{AuthorId, Hash, KeyMark, SessionId, ShardId, SiteId};
use crate::{wire_enum, wire_struct};

/// The version of what is said on links. Two that differ say nothing but this to each other: what can be said in an older
/// form for an older peer has a bit in [`Hello::features`] instead.
pub const LINK_VERSION: u16 = 1;

/// One thing said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first word of both sides.
    Hello(Hello),
    /// Edits.
    Batch(Box<Batch>),
    /// A batch was taken.
    Ack(Ack),
    /// Start again, and go by these heads: a batch was not taken, or did not fit.
    Again(Again),
    /// Which hashes do you have?
    Ask(Ask),
    /// These.
    Hashes(Hashes),
    /// What sites hold, signed.
    Statements(Vec<Statement>),
    /// What was not said in the first word, of shards that moved or differ.
    Greet(Vec<ShardHello>),
}

/// The first word: who speaks, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`LINK_VERSION`]; of another version, nothing else is read.
    pub version: u16,
    /// What else the speaker understands, one bit each; none is given a meaning yet. What the listener does not know, it passes over.
    pub features: u64,
    /// Where it offers many shards: a digest for each [bucket](super::bucket_of) of them, over their ids and the digests of
    /// their edits. Where one agrees with the listener's, neither lacks anything of these shards.
    pub buckets: Vec<Bucket>,
    /// What it has of shards: of all that it offers, unless there are buckets.
    pub shards: Vec<ShardHello>,
}

/// A digest of what a site holds of some shards.
pub type Bucket = [u8; 16];

impl Hello {
    /// Of few shards: all is said at once.
    #[must_use]
    pub fn of(shards: Vec<ShardHello>) -> Self {
        Hello { version: LINK_VERSION, features: 0, buckets: Vec::new(), shards }
    }
}

impl Wire for Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        self.version.encode(out);
        self.features.encode(out);
        self.buckets.encode(out);
        self.shards.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let version = u16::decode(input)?;
        if version != LINK_VERSION {
            input.take(input.rest().len())?;
            return Ok(Hello { version, ..Hello::of(Vec::new()) });
        }
        let (features, buckets, shards) = (Wire::decode(input)?, Wire::decode(input)?, Wire::decode(input)?);
        Ok(Hello { version, features, buckets, shards })
    }
}

/// What the speaker has of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardHello {
    /// The shard.
    pub shard: ShardId,
    /// The name of the speaker's stream.
    pub epoch: Epoch,
    /// Its heads.
    pub heads: Heads,
    /// How far it has taken the listener's stream.
    pub cursor: Option<Cursor>,
}

/// A piece of the speaker's stream of one shard. It never splits the edits of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The shard.
    pub shard: ShardId,
    /// Where it begins; the listener takes it only if it stands there, or if this is a stream's beginning.
    pub start: Cursor,
    /// Where the listener stands afterwards.
    pub end: Cursor,
    /// The edits, in the order of arrival at the speaker, without those that the listener has.
    pub items: Vec<Item>,
    /// The secrets of the sessions of these edits.
    pub secrets: Vec<(AuthorId, SessionId, [u8; 32])>,
    /// For each author, its word for the last of these edits, and so for all before it.
    pub seals: Vec<Seal>,
}

impl Batch {
    /// What the listener proposes: what `peer` sent, and when it came; of the words those that are good, by the key that `check` says.
    #[must_use]
    pub fn into_command(
        self,
        peer: SiteId,
        now_ms: i64,
        mut check: impl FnMut(&Seal) -> Option<KeyMark>,
    ) -> MergeCommand {
        let Batch { shard, start, end, items, secrets, seals } = self;
        let seals = seals.into_iter().filter_map(|seal| check(&seal).map(|key| Checked { seal, key })).collect();
        MergeCommand { peer, now_ms, shard, start, end, items, secrets, seals }
    }
}

/// Where the speaker stands in the listener's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The shard.
    pub shard: ShardId,
    /// The place.
    pub cursor: Cursor,
}

/// The cursor does not fit: what the speaker has instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The shard.
    pub shard: ShardId,
    /// Its heads.
    pub heads: Heads,
}

/// Asks for the hashes of the edits `from..=to` on the way to the head that the listener said of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The shard.
    pub shard: ShardId,
    /// The author.
    pub author: AuthorId,
    /// The first number.
    pub from: u64,
    /// The last number.
    pub to: u64,
}

/// The hashes of these edits from `from` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// The shard.
    pub shard: ShardId,
    /// The author.
    pub author: AuthorId,
    /// The number of the first.
    pub from: u64,
    /// As many as the speaker holds of those asked for.
    pub hashes: Vec<Hash>,
}

wire_struct! {
    ShardHello { shard, epoch, heads, cursor }
    Batch { shard, start, end, items, secrets, seals }
    Ack { shard, cursor }
    Again { shard, heads }
    Ask { shard, author, from, to }
    Hashes { shard, author, from, hashes }
}

wire_enum! { Message, "message of a link" {
    1 => Hello, 2 => Batch, 3 => Ack, 4 => Again, 5 => Ask, 6 => Hashes, 7 => Statements, 10 => Greet,
} }
