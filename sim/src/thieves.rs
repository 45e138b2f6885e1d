//! Somebody who stole a site's key and data, and speaks to the site above in its name, beside the site itself.
//!
//! He dials as a node of the site would, and sends whatever he likes over the real link: one piece of mischief in each session.
//! What he is after ([`Theft`]) says which. Owns: when he speaks and with whom, and counts of what was taken of him that must be.
//! Leaves to others: what he says (`goods`), and that no promise breaks for it (`checks`).
//!
//! Limits: he has the key of one site, and not its certificate authority; he forks few of the site's present chains, since
//! each costs the site one of the lives that its neighbours take.

use std::sync::Arc;
use std::time::Duration;

use dinhba_client::tls::{named, node_name, site_name};
use dinhba_client::transport::Line;
use dinhba_core::claims::Identity;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, Hash, NodeId, RecordId, ShardId};
use dinhba_core::inject::sometimes;
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, AuthorState, LIVES_OF_KEY_MAX, ShardState};
use dinhba_core::sync::{Batch, Message};
use dinhba_node::runtime::{self, Instant};
use dinhba_node::state::MemoryState;
use dinhba_proto::v1::link_client::LinkClient;
use dinhba_proto::v1::{LinkFrame, LocateRequest, LocatedGroup};
use futures::StreamExt;
use futures::channel::mpsc;

use crate::country::Country;
use crate::scenario::Theft;
use crate::state::{arrivals, engine, hashes_of_machine};
use crate::trace::SitePlace;
use crate::wire::Endpoint;

use goods::Goods;

mod goods;

/// From one session to the next.
const PAUSE: Duration = Duration::from_secs(2);

/// How long he listens in a session before he sends anything, and after.
const LISTENS: Duration = Duration::from_secs(1);

/// How long he waits for an answer.
const WAIT: Duration = Duration::from_secs(10);

/// Forks of the site's present chains that one thief makes.
const FORKS_MAX: u32 = 12;

/// Lives of the site in a shard that he leaves to it, and what a flood takes, unless he takes all.
const LIVES_LEFT: usize = 32;

/// Floods of the record that he keeps for it: each is most of a megabyte, which every site above has to hold.
const FLOODS_MAX: u32 = 4;

/// Messages of the site above that he keeps to send them again.
const HEARD_MAX: usize = 8;

/// Messages from here on are compressed, and how hard: only large ones, so that a run is not slow.
const COMPRESS_FROM: usize = 4 * 1024;
const ZSTD_LEVEL: i32 = 1;

/// Speaks until the time is over. If the site gets another key afterwards he may take all lives that it could have under this one.
pub async fn steal(country: Country, site: SitePlace, (theft, takes_all): (Theft, bool), ends: Instant) {
    let here = country.person(site);
    let mut record = RecordId::default();
    runtime::fill_random(&mut record.0);
    let mut thief = Thief { country, site, theft, takes_all, here, forks: 0, record, floods: 0, sent: None };
    while runtime::now() < ends {
        // Of ancestor shards he tries what must not be taken alone: what a key may say there misleads whole districts.
        let is_his = |shard: &ShardId| theft == Theft::Forges || !thief.country.is_ancestor(*shard);
        let shards: Vec<ShardId> = thief.country.sites()[site].shards().filter(is_his).collect();
        let shard = shards[thief.pick(shards.len())];
        // Whatever ends a session ends it: the line, the site above, or what he said.
        let _ = runtime::timeout(ends - runtime::now(), thief.speak(shard)).await;
        runtime::sleep_until((runtime::now() + PAUSE).min(ends)).await;
        thief.count_taken();
    }
}

/// What must be taken.
#[derive(Clone, Copy)]
enum Kind {
    Fork,
    Next,
    Unknown,
    PartlyUnknown,
    Flood,
    Overwrites,
}

/// What he sent last of what must be taken.
struct Sent {
    kind: Kind,
    shard: ShardId,
    /// Hashes of the last edits of its batches.
    tips: Vec<Hash>,
    /// How many edits the site above had before.
    before: u64,
}

struct Thief {
    country: Country,
    site: SitePlace,
    theft: Theft,
    takes_all: bool,
    here: Endpoint,
    forks: u32,
    /// The record that he floods.
    record: RecordId,
    floods: u32,
    sent: Option<Sent>,
}

/// A session that is open: what he sends, and what the site above says.
struct Talk {
    outgoing: mpsc::UnboundedSender<LinkFrame>,
    incoming: tonic::Streaming<LinkFrame>,
}

fn frame(message: Vec<u8>) -> LinkFrame {
    LinkFrame { message, ..LinkFrame::default() }
}

/// Batches in messages.
fn frames(batches: impl IntoIterator<Item = Batch>) -> Vec<LinkFrame> {
    let packed = |batch| {
        let bytes = Message::Batch(Box::new(batch)).to_bytes();
        if bytes.len() < COMPRESS_FROM {
            return frame(bytes);
        }
        match zstd::bulk::compress(&bytes, ZSTD_LEVEL) {
            Ok(packed) => LinkFrame { compressed: true, ..frame(packed) },
            Err(_) => frame(bytes),
        }
    };
    batches.into_iter().map(packed).collect()
}

impl Thief {
    fn pick(&self, count: usize) -> usize {
        self.country.pick(count)
    }

    /// One session about a shard.
    async fn speak(&mut self, shard: ShardId) -> Option<()> {
        let mut line = self.open(shard).await?;
        let mut heard = Vec::new();
        let is_revoked = self.is_revoked();
        line.listen(&mut heard).await?;
        let goods = Goods::of(&self.country, self.site, shard)?;
        let frames = match self.theft {
            Theft::Forges if self.is_spoken_by_others(shard) && self.pick(4) == 0 => frames([goods.crowd()]),
            Theft::Forges => self.forgeries(&goods, &heard),
            Theft::Forks => self.forks(&goods, shard)?,
            // Once all lives are taken, the site cannot begin to write there under this key.
            Theft::Crowds if !self.takes_all && !self.has_spoken(&goods, shard) => self.forgeries(&goods, &heard),
            Theft::Crowds if self.pick(4) == 0 => frames(goods.secrets()),
            Theft::Crowds => frames([goods.crowd()]),
        };
        if sometimes("a thief's key is revoked", is_revoked) {
            self.country.note_late(self.sent.iter().flat_map(|sent| &sent.tips).copied());
        }
        for frame in frames {
            line.outgoing.unbounded_send(frame).ok()?;
        }
        line.listen(&mut heard).await
    }

    /// Something that must not be taken.
    fn forgeries(&self, goods: &Goods, heard: &[LinkFrame]) -> Vec<LinkFrame> {
        let batch = match self.pick(13) {
            0 => return vec![frame(goods.noise(200))],
            1 => return vec![LinkFrame { compressed: true, ..frame(goods.noise(200)) }],
            2 => return goods.lies().iter().map(|lie| frame(lie.to_bytes())).collect(),
            // What was said to him, as if he had it from elsewhere.
            3 => return heard.to_vec(),
            4 => return vec![frame(goods.greeting_of_too_many().to_bytes())],
            5 => goods.without_a_word(),
            6 => goods.continued_for_another(),
            7 => goods.forked_for_another(),
            8 => goods.with_a_word_for_another(),
            9 => goods.life_of_another(),
            10 => goods.half_a_command(),
            11 => goods.unreadable(),
            _ => goods.of_another_shard(),
        };
        frames(batch)
    }

    /// Something that must be taken.
    fn forks(&mut self, goods: &Goods, shard: ShardId) -> Option<Vec<LinkFrame>> {
        let (kind, batches) = match self.pick(6) {
            0 if self.forks < FORKS_MAX => {
                self.forks += 1;
                (Kind::Fork, vec![goods.own_chain_forked()?])
            }
            1 if self.forks < FORKS_MAX => {
                self.forks += 1;
                (Kind::Next, vec![goods.own_chain_continued()?])
            }
            // The site may need another life itself.
            _ if self.lives_above(shard) + LIVES_LEFT > LIVES_OF_KEY_MAX => return None,
            2 => (Kind::Unknown, vec![goods.unknown()]),
            3 if self.floods < FLOODS_MAX => {
                self.floods += 1;
                (Kind::Flood, goods.flood(self.record))
            }
            4 => (Kind::PartlyUnknown, vec![goods.partly_unknown()]),
            _ => (Kind::Overwrites, vec![goods.hostile_overwrites()]),
        };
        let tips = batches.iter().flat_map(|batch| &batch.seals).map(|seal| seal.tip.hash).collect();
        let before = self.above(shard).map_or(0, |(state, group)| {
            let key = Keys(group).shard(shard);
            registry::read::<ShardState>(&*state, &key).ok().flatten().map_or(0, |shard| shard.arrivals)
        });
        self.sent = Some(Sent { kind, shard, tips, before });
        Some(frames(batches))
    }

    /// Whether nothing that his site says belongs into a shard: it is what a unit above says.
    fn is_spoken_by_others(&self, shard: ShardId) -> bool {
        self.country.is_ancestor(shard) && shard != ShardId::of_unit_above(self.country.sites()[self.site].unit)
    }

    /// How many lives of the site the site above knows in a shard.
    fn lives_above(&self, shard: ShardId) -> usize {
        let site = self.country.sites()[self.site].id;
        let known = self.above(shard).and_then(|(state, group)| registry::authors(&*state, Keys(group), shard).ok());
        known.map_or(0, |known| known.values().filter(|life| life.author.site == site && life.trunk.is_none()).count())
    }

    /// Whether the site above has an edit of the life that the site now has.
    fn has_spoken(&self, goods: &Goods, shard: ShardId) -> bool {
        self.above(shard).is_some_and(|(state, group)| {
            let own = registry::read::<AuthorState>(&*state, &Keys(group).author(shard, goods.author()));
            own.ok().flatten().is_some_and(|own| own.number > 0)
        })
    }

    /// Whether the site above has heard that the key which he has verifies nothing any more.
    fn is_revoked(&self) -> bool {
        let (revocations, above) = (self.country.revocations(self.site), self.country.parent(self.site));
        let has_heard = |above: SitePlace| {
            self.country.machines_of(above).into_iter().all(|node| {
                let held = hashes_of_machine(&self.country, node);
                revocations.iter().all(|edit| held.contains(edit))
            })
        };
        !revocations.is_empty() && above.is_some_and(has_heard)
    }

    /// Where the site above has a shard.
    fn above(&self, shard: ShardId) -> Option<(Arc<MemoryState>, GroupId)> {
        let above = self.country.parent(self.site)?;
        let node = self.country.machines_of(above).into_iter().next()?;
        Some((engine(&self.country, node), self.country.sites()[above].group_of(shard)?))
    }

    /// Counts what the site above took of what was sent to it last.
    fn count_taken(&mut self) {
        let Some(Sent { kind, shard, tips, before }) = self.sent.take() else { return };
        let Some((state, group)) = self.above(shard) else { return };
        let came = arrivals(&*state, group, shard, before + 1);
        let is_taken = tips.iter().any(|tip| came.contains(tip));
        match kind {
            Kind::Fork => sometimes("a thief's fork is taken", is_taken),
            Kind::Next => sometimes("a thief's next edit is taken", is_taken),
            Kind::Unknown => sometimes("a thief's edit that nobody knows is taken", is_taken),
            Kind::PartlyUnknown => sometimes("a thief's command that is known in part is taken", is_taken),
            Kind::Flood => sometimes("a thief's flood is taken", is_taken),
            Kind::Overwrites => sometimes("a thief's overwrites of what is not there are taken", is_taken),
        };
    }

    /// A session with the group of the site above that hosts the shard.
    async fn open(&self, shard: ShardId) -> Option<Talk> {
        let country = &self.country;
        let parent = country.parent(self.site)?;
        let (node, parent, addresses) = {
            let machines = country.machines();
            let node = machines.iter().find(|machine| machine.site == self.site)?.id;
            let above = machines.iter().filter(|machine| machine.site == parent);
            let addresses: Vec<String> = above.map(|machine| machine.config.node.listen.to_string()).collect();
            (node, country.sites()[parent].id, addresses)
        };
        let dial = country.wire().dialer(self.here, &Identity::Node { site: country.sites()[self.site].id, node });
        for address in addresses {
            let ask = async {
                let transport = dial.dial(named(&site_name(parent), &address)).await.ok()?;
                let request = LocateRequest { shards: vec![shard.to_string()] };
                let groups = LinkClient::new(Line(transport)).locate(request).await.ok()?.into_inner().groups;
                groups.into_iter().find(|group| !group.address.is_empty())
            };
            let Some(LocatedGroup { group, leader, address, .. }) = runtime::timeout(WAIT, ask).await.ok().flatten()
            else {
                continue;
            };
            let (outgoing, frames) = mpsc::unbounded();
            outgoing.unbounded_send(LinkFrame { group, ..frame(Vec::new()) }).ok()?;
            let open = async {
                let leader: NodeId = leader.parse().ok()?;
                let transport = dial.dial(named(&node_name(leader), &address)).await.ok()?;
                Some(LinkClient::new(Line(transport)).session(frames).await.ok()?.into_inner())
            };
            let incoming = runtime::timeout(WAIT, open).await.ok().flatten()?;
            return Some(Talk { outgoing, incoming });
        }
        None
    }
}

impl Talk {
    /// Hears what the site above says for a while; none once it closed.
    async fn listen(&mut self, heard: &mut Vec<LinkFrame>) -> Option<()> {
        let ends = runtime::now() + LISTENS;
        while let Ok(frame) = runtime::timeout(ends - runtime::now(), self.incoming.next()).await {
            let frame = frame?.ok()?;
            if heard.len() < HEARD_MAX {
                heard.push(frame);
            }
        }
        Some(())
    }
}
