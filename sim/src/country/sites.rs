//! What operators change of sites in mid-run: below whom each is linked, with which keys it signs, what it is founded with.

use std::collections::BTreeMap;
use std::sync::Arc;

use dinhba_core::ids::{Hash, ShardId};
use dinhba_node::config;
use ed25519_dalek::SigningKey;

use super::{Country, Power, Site, Turn, lock};
use crate::scenario::unit;
use crate::trace::SitePlace;

/// A site as it is by now.
pub(super) struct SiteNow {
    /// The site above.
    pub parent: Option<SitePlace>,
    /// With what it signs.
    pub key: SigningKey,
    /// With what it signed before.
    pub former: Vec<SigningKey>,
    /// With what whoever stole a key of it signs.
    pub stolen: Option<SigningKey>,
    /// The edits by which keys of it were revoked.
    pub revocations: Vec<Hash>,
    /// What it is founded with; none before.
    pub place_file: Option<Arc<Vec<u8>>>,
}

impl Country {
    /// The key of a site, for whoever steals it; who comes again has the one that was stolen first.
    #[must_use]
    pub fn stolen_key(&self, site: SitePlace) -> SigningKey {
        let site = &mut lock(&self.0.now)[site];
        site.stolen.get_or_insert_with(|| site.key.clone()).clone()
    }

    /// What verifies the site's signatures, as people write it.
    #[must_use]
    pub fn public_key(&self, site: SitePlace) -> String {
        spelled(&lock(&self.0.now)[site].key)
    }

    /// The site above, as operators have it; none above the centre.
    #[must_use]
    pub fn parent(&self, site: SitePlace) -> Option<SitePlace> {
        lock(&self.0.now)[site].parent
    }

    /// The site is linked below another one from now on.
    pub fn set_parent(&self, site: SitePlace, parent: SitePlace) {
        lock(&self.0.now)[site].parent = Some(parent);
    }

    /// The site signs with another key from its next start on.
    pub fn set_key(&self, site: SitePlace, key: SigningKey) {
        let site = &mut lock(&self.0.now)[site];
        let former = std::mem::replace(&mut site.key, key);
        site.former.push(former);
    }

    /// Former keys of the site verify nothing any more, wherever this edit is.
    pub fn note_revocation(&self, site: SitePlace, edit: Hash) {
        let site = &mut lock(&self.0.now)[site];
        site.revocations.push(edit);
        site.former.clear();
    }

    /// The edits by which keys of a site were revoked.
    #[must_use]
    pub fn revocations(&self, site: SitePlace) -> Vec<Hash> {
        lock(&self.0.now)[site].revocations.clone()
    }

    /// Whether the site is there, or on its way.
    #[must_use]
    pub fn is_founded(&self, site: SitePlace) -> bool {
        lock(&self.0.now)[site].place_file.is_some()
    }

    /// Founds a site that was not there before, with the file that its operators were given.
    pub fn found_site(&self, site: SitePlace, place_file: String) {
        lock(&self.0.now)[site].place_file = Some(Arc::new(place_file.into_bytes()));
        self.lay_site(site);
    }

    /// What operators write into the file with which a site is founded anew: the sites that stand there, as they are by now.
    pub(super) fn write_place_file(&self, site: SitePlace) {
        let mut now = lock(&self.0.now);
        let Some(file) = now[site].place_file.clone() else { return };
        let text = String::from_utf8_lossy(&file);
        let is_named = |site: &SitePlace| text.contains(&format!("site,{},", self.0.sites[*site].id));
        let mut written = String::from(PLACE_HEADER);
        for named in (0..self.0.sites.len()).filter(is_named) {
            written.push_str(&site_lines(&self.0.sites, &now, named));
        }
        for line in text.lines().filter(|line| line.starts_with("shard,")) {
            written.push_str(&format!("{line}\n"));
        }
        now[site].place_file = Some(Arc::new(written.into_bytes()));
    }

    /// Whose turn it is to say something of another site, of the operators of one.
    #[must_use]
    pub fn turn(&self, site: SitePlace) -> Turn {
        Arc::clone(&self.0.turns[site])
    }

    /// Where the nodes of a site are reached.
    #[must_use]
    pub fn addresses(&self, site: SitePlace) -> Vec<String> {
        let machines = self.machines();
        let there = machines.iter().filter(|machine| machine.site == site && machine.power != Power::Gone);
        there.map(|machine| machine.config.node.listen.to_string()).take(config::ADDRESSES_MAX).collect()
    }
}

/// The public half of a key, as people write it.
pub(crate) fn spelled(key: &SigningKey) -> String {
    key.verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

const PLACE_HEADER: &str = "kind,id,unit,parent,public_key\n";

/// The lines of a site in a place file, one for each of its keys.
fn site_lines(sites: &[Site], now: &[SiteNow], site: SitePlace) -> String {
    let (SiteNow { parent, key, former, .. }, plan) = (&now[site], &sites[site]);
    let parent = parent.map(|above| sites[above].id.to_string()).unwrap_or_default();
    let line = |key| format!("site,{},{},{parent},{}\n", plan.id, plan.unit, spelled(key));
    std::iter::once(key).chain(former).map(line).collect()
}

/// The place file of a country's first sites.
pub(super) fn place_file(
    sites: &[Site],
    now: &[SiteNow],
    founded: &[SitePlace],
    shards: &BTreeMap<String, ShardId>,
) -> Vec<u8> {
    let mut text = String::from(PLACE_HEADER);
    for site in founded {
        text.push_str(&site_lines(sites, now, *site));
    }
    let is_there = |code: &&String| founded.iter().any(|site| sites[*site].code == **code);
    for code in shards.keys().filter(is_there) {
        let home = unit(code).expect("a scenario's units exist").id;
        text.push_str(&format!("shard,{},{home},,\n", shards[code]));
    }
    text.into_bytes()
}
