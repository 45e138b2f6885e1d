//! The messages of a link, in the canonical encoding. `proto/LINK.md` describes them for other implementations.

use crate::command::{Batch, Cursor, Epoch, Heads, Statement};
use crate::ids::{AuthorId, Hash, ShardId};
use crate::{wire_enum, wire_struct};

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
}

/// The first word: what the speaker has of each shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The shards that it offers on this link.
    pub shards: Vec<ShardHello>,
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
    Hello { shards }
    ShardHello { shard, epoch, heads, cursor }
    Ack { shard, cursor }
    Again { shard, heads }
    Ask { shard, author, from, to }
    Hashes { shard, author, from, hashes }
}

wire_enum! { Message, "message of a link" {
    1 => Hello, 2 => Batch, 3 => Ack, 4 => Again, 5 => Ask, 6 => Hashes, 7 => Statements,
} }
