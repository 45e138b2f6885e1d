//! A day at the counters, beside the bulk: a birth far from the line with its number, a death that takes two persons, a dossier that is late, a
//! campaign with its target; and the figures of it all at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dinhba_client::event::{Birth, Death, EventBuilder};
use dinhba_client::generate::holidays;
use dinhba_client::person::Person;
use dinhba_client::request::field_of;
use dinhba_client::standing::Judgement;
use dinhba_client::targets::{SetTarget, TargetsOf};
use dinhba_client::work::WorkQuery;
use dinhba_client::{Context, Limits};
use dinhba_core::claims::Role;
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::event::Event;
use dinhba_core::ids::RecordId;
use dinhba_core::number::{Series, Sex};
use dinhba_core::standing::Standing;
use dinhba_core::targets::Aim;
use dinhba_core::units::Tier;

use super::report::{Say, UnitCounts};
use super::story::Story;
use crate::runtime::{self, now, sleep};

/// How long a dossier lay on paper until the power was back, in days: late at every tier.
const LAY_THERE: i64 = 42;
/// How long a list or a calendar may take to come where it is waited for.
const COMES_WITHIN: Duration = Duration::from_secs(20);
/// What the district wants of a campaign for cards, within how many days, and what the commune does of it.
const CARDS_WANTED: u64 = 20;
const CAMPAIGN_DAYS: i64 = 30;
const CARDS_MADE: u64 = 5;
/// A card from the request to the counter.
const CARD_EVENTS: [Event; 5] =
    [Event::CardRequested, Event::CardCaptured, Event::CardApproved, Event::CardProduced, Event::CardDelivered];
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was begun at the commune that is cut off.
pub(super) struct Begun {
    /// Whose death one officer registered.
    deceased: RecordId,
    /// The dossier that is late.
    dossier: RecordId,
}

fn today() -> Date {
    InstantMs(runtime::utc_ms()).date_in_vietnam()
}

impl Story {
    /// The centre says the holidays of this year and those beside it, since deadlines are counted by them.
    pub(super) async fn say_holidays(&mut self, say: &Say) -> Result<()> {
        let context = Context::parse("maintenance", "QĐ-2024-001")?;
        let centre = self.country.client(0, 0, Role::Operator, Limits::default())?;
        let year = today().year();
        for year in [year - 1, year, year + 1] {
            centre.set_holidays(&context, &holidays(year), "Thông báo nghỉ lễ, Tết").await?;
            let since = now();
            while !centre.holidays().await?.iter().any(|said| said.year == u32::from(year)) {
                if now() - since > COMES_WITHIN {
                    self.broken(say, format!("the holidays of {year} were said and are not known"));
                    break;
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Of which sex the commune that is to be cut off has numbers for who is born this year: blocks come down by themselves.
    pub(super) async fn numbers_at_hand(&mut self, say: &Say) -> Result<Sex> {
        let (context, since) = (Context::parse("statistics", "TK-2024-003")?, now());
        let client = self.officer(self.country.homes[0].way_up[0])?.client;
        loop {
            let units = client.numbers(&context, "", None).await?.units;
            let left = units.iter().flat_map(|unit| &unit.left).filter(|left| left.left > 0);
            let series = left.filter_map(|left| left.series.parse::<Series>().ok());
            if let Some(series) = series.into_iter().find(|series| series.birth_year() == today().year()) {
                return Ok(series.sex());
            }
            if now() - since > COMES_WITHIN {
                self.broken(say, "no numbers came down to the commune".to_owned());
                return Ok(Sex::Female);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// At the commune that is cut off: somebody is born, somebody dies, and a dossier is typed in that lay there on paper.
    pub(super) async fn at_the_counter(&mut self, people: &[RecordId], sex: Sex, say: &Say) -> Result<Begun> {
        let context = Context::parse("registration", "KS-2024-300")?;
        let officer = self.officer(self.country.homes[0].way_up[0])?;
        let name = if sex == Sex::Female { "Giàng Thị Mỷ" } else { "Giàng A Tủa" };
        let born = Birth::of(name, sex, today().into()).nationality("VN").build(&context);
        let child = officer.file(&born).await?;
        self.facts.numbered_far_from_the_line = child.number.is_some();
        if child.number.is_none() {
            self.broken(
                say,
                "a child that was born far from the line has no number, though there were some".to_owned(),
            );
        }
        let mut deceased = None;
        for id in people {
            let record = officer.client.get(&context, *id).await?;
            let person = Person::of(&record, &*self.country.directory)?;
            // Somebody whose death ends no marriage, and leaves no household without a head.
            let relation = field_of(&record, "relation_to_head", "");
            let is_child = relation.is_some_and(|field| field.values.iter().all(|value| value.value == "child"));
            if is_child && person.marital_status != Some("married") {
                deceased = Some(record);
                break;
            }
        }
        let deceased = deceased.context("nobody in the commune lives without a spouse")?;
        let died = officer.file(&Death::of(&deceased, today().into()).build(&context)).await?;
        if !died.pending {
            self.broken(say, "a death that one officer registered does not wait for a second person".to_owned());
        }
        let mut opened = EventBuilder::new(&context, Event::DossierOpened);
        opened.create("dossier");
        opened.set("service", "birth").set("applicant", "Giàng Thị Dợ");
        opened.set("date", &Date::from_days(today().days() - LAY_THERE).to_string());
        let dossier = officer.file(&opened).await?;
        say.step(format!(
            "a child is born there and has a number of the commune's own; a death waits for a second person; a dossier is {LAY_THERE} \
             days old"
        ));
        let dossier = dossier.records.first().copied().context("an event that made no dossier")?;
        Ok(Begun { deceased: deceased.id.parse()?, dossier })
    }

    /// Once the line is back: the dossier shows at every tier above, a colleague of the district confirms the death, and the commune does
    /// what is late.
    pub(super) async fn after_the_line(&mut self, begun: &Begun, say: &Say) -> Result<()> {
        let context = Context::parse("adjudication", "XD-2024-301")?;
        let way_up = self.country.homes[0].way_up;
        for at in way_up {
            let (client, since) = (self.officer(at)?.client, now());
            let query = WorkQuery { overdue: true, kind: "step".to_owned(), ..WorkQuery::default() };
            loop {
                let items = client.work(&context, &query, &[]).await?.items;
                if items.iter().any(|item| item.record == begun.dossier.to_string()) {
                    self.facts.lists_with_late_dossier += 1;
                    break;
                }
                if now() - since > COMES_WITHIN {
                    let name = self.country.sites[at].name.clone();
                    self.broken(say, format!("the late dossier is not on the list of {name}"));
                    break;
                }
                sleep(LOOK_EVERY).await;
            }
        }
        let district = self.officer(way_up[1])?;
        for entry in district.client.pending_of(&context, begun.deceased).await? {
            let judgement = Judgement {
                record: begun.deceased,
                edit: entry.hash,
                standing: Standing::Confirmed,
                grounds: String::new(),
            };
            district.judge(&context, &judgement).await?;
            self.facts.confirmed_by_second += 1;
        }
        if self.facts.confirmed_by_second == 0 {
            self.broken(say, "the death did not wait for a second person at the district".to_owned());
        }
        let commune = self.officer(way_up[0])?;
        let dossier = commune.client.get(&context, begun.dossier).await?;
        let born = Date::from_days(today().days() - LAY_THERE - 1).into();
        let mut birth = Birth::of("Giàng A Páo", Sex::Male, born).nationality("VN").build(&context);
        birth.about("dossier", &dossier);
        commune.file(&birth).await?;
        say.step(format!(
            "the late dossier stood on the lists of {} tiers, and goes on; the death is confirmed at the district",
            self.facts.lists_with_late_dossier
        ));
        Ok(())
    }

    /// The district wants cards handed over in its commune within a month; the commune hands over the first of them, and the province sees how
    /// far that is.
    pub(super) async fn campaign(&mut self, people: &[RecordId], say: &Say) -> Result<()> {
        let context = Context::parse("issuance", "KH-2024-005")?;
        let way_up = self.country.homes[0].way_up;
        let (commune, district) = (self.officer(way_up[0])?, self.officer(way_up[1])?);
        let aim = Aim::new(today(), Date::from_days(today().days() + CAMPAIGN_DAYS), CARDS_WANTED)?;
        let target = SetTarget::of(self.country.homes[0].unit, Event::CardDelivered, aim, "Kế hoạch 5/KH-CA");
        district.client.edit(&district.client.session(), &target.build(&context)).await?;
        let mut done = 0;
        for id in people {
            let record = commune.client.get(&context, *id).await?;
            let person = Person::of(&record, &*self.country.directory)?;
            let age = person.birth_date.map(|born| born.latest().years_until(today()));
            let may = person.number.is_some() && person.death_date.is_none() && age.is_some_and(|age| age >= 14);
            if !may || !person.is_settled() {
                continue;
            }
            for event in CARD_EVENTS {
                let read = commune.client.get(&context, *id).await?;
                let mut filed = EventBuilder::new(&context, event);
                filed.about("person", &read);
                if event == Event::CardRequested {
                    filed.set("kind", "căn cước");
                }
                commune.file(&filed).await?;
            }
            done += 1;
            if done == CARDS_MADE {
                break;
            }
        }
        let (province, since) = (self.officer(way_up[2])?.client, now());
        loop {
            let told = province.targets(&context, &TargetsOf::default()).await?.targets;
            let progress = told.first().and_then(|target| target.progress.clone()).unwrap_or_default();
            if progress.done == done && done > 0 {
                self.facts.cards_delivered = done;
                self.facts.cards_wanted = CARDS_WANTED;
                say.step(format!(
                    "{done} of the {CARDS_WANTED} cards that the district wants are handed over; the province sees it"
                ));
                return Ok(());
            }
            if now() - since > COMES_WITHIN {
                let text = format!("the province sees {} of {done} cards that were handed over", progress.done);
                self.broken(say, text);
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The figures of each commune, as the centre has them.
    pub(super) async fn count(&mut self) -> Result<()> {
        let context = Context::parse("statistics", "TK-2024-002")?;
        let days = (Date::from_days(today().days() - 1), Date::from_days(today().days() + 1));
        let units = self.officer(0)?.client.figures(&context, "", days).await?;
        for unit in units {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for figure in unit.figures {
                *counts.entry(figure.event).or_default() += figure.count;
            }
            self.facts.figures.push(UnitCounts { unit: unit.unit_name, code: unit.unit_code, counts });
        }
        let tier = |code: &String| self.country.sites.iter().find(|site| site.code == *code).map(|site| site.tier);
        self.facts.figures.retain(|of| tier(&of.code).is_none_or(|tier| tier == Tier::Commune));
        Ok(())
    }
}
