//! Events, as officers file them: births, deaths, marriages, corrections; and what waits for a second person. What they make of the records is decided where the
//! log is applied, so each is sent again and again with what was seen at its first time, and once more when it is answered.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use dinhba_client::event::{Birth, Death, EventBuilder, Marriage};
use dinhba_client::standing::Judgement;
use dinhba_client::{Accepted, Error};
use dinhba_core::access_log::Looked;
use dinhba_core::date::PartialDate;
use dinhba_core::event::Event;
use dinhba_core::ids::{RecordId, RequestId, ShardId};
use dinhba_core::number::Sex;
use dinhba_core::standing::Standing;
use tonic::Code;

use super::{Answered, Asked, Became, FILE_NUMBER, Officer, Sent};
use crate::looks::whole;

fn day(text: &str) -> PartialDate {
    text.parse().expect("a day of the calendar")
}

impl Officer {
    pub(super) async fn file_event(&self, shard: ShardId, known: &[RecordId]) {
        match self.pick(7) {
            6 => self.file_dossier(shard).await,
            5 => self.file_again().await,
            0 => self.file_birth(shard, known).await,
            1 => self.file_marriage(known).await,
            2 => self.file_death(known).await,
            3 => self.settle(shard).await,
            _ => self.file_correction(known[self.pick(super::SHARED_RECORDS)]).await,
        }
    }

    /// A boy or a girl of whose parents nothing is said.
    pub(super) async fn file_newborn(&self, shard: ShardId) {
        let (name, sex) = [("Vàng Văn Páo", Sex::Male), ("Vàng Thị Mỷ", Sex::Female)][self.pick(2)];
        let mut event = Birth::of(name, sex, day("2025-12-30")).nationality("VN").build(&self.context);
        event.shard(shard);
        let _ = self.file(self.session.next(), &event, shard, "birth").await;
    }

    /// A child of somebody of the shard.
    async fn file_birth(&self, shard: ShardId, known: &[RecordId]) {
        let Some(mother) = self.read(known[self.pick(known.len())], FILE_NUMBER).await else { return };
        let mut birth = Birth::of("Nguyễn Thị Mai", Sex::Female, day("2025-12-30")).nationality("VN").mother(&mother);
        if self.pick(6) == 0 {
            // As a paper has it from before there were blocks; perhaps wrongly, and of somebody else.
            birth = birth.number(&format!("010325{:06}", self.pick(40)));
        }
        let mut event = birth.build(&self.context);
        event.shard(shard);
        let request = self.session.next();
        if let Became::Accepted = self.file(request, &event, shard, "birth").await {
            let record = RecordId::derive(request, 0);
            self.oracle.ledger().records.entry(shard).or_default().push(record);
        }
    }

    /// A service of several steps; and what becomes of its first one.
    async fn file_dossier(&self, shard: ShardId) {
        let mut opened = EventBuilder::new(&self.context, Event::DossierOpened);
        opened.create("dossier");
        opened.shard(shard).set("service", "birth").set("applicant", "Giàng Thị Dợ");
        let request = self.session.next();
        let Became::Accepted = self.file(request, &opened, shard, "dossier").await else { return };
        let Some(dossier) = self.read(RecordId::derive(request, 0), FILE_NUMBER).await else { return };
        let of_step = |event| {
            let mut of_step = EventBuilder::new(&self.context, event);
            of_step.set("step", "birth registration").grounds("Công văn 1/UBND");
            of_step
        };
        let mut next = match self.pick(4) {
            0 => Birth::of("Giàng Thị Mỷ", Sex::Female, day("2025-12-30")).nationality("VN").build(&self.context),
            1 => of_step(Event::DossierStepRejected),
            2 => {
                let mut asked = of_step(Event::DossierPapersAsked);
                asked.set("lacking", "Giấy chứng sinh");
                asked
            }
            _ => return,
        };
        next.shard(shard).about("dossier", &dossier);
        let _ = self.file(self.session.next(), &next, shard, "step").await;
    }

    async fn file_marriage(&self, known: &[RecordId]) {
        let (one, two) = (known[self.pick(known.len())], known[self.pick(known.len())]);
        let (Some(one), Some(two)) = (self.read(one, FILE_NUMBER).await, self.read(two, FILE_NUMBER).await) else {
            return;
        };
        // Of one and the same it is refused.
        let event = Marriage::of(&one, &two, day("2020-05-01")).build(&self.context);
        let shard = one.shard.parse().unwrap_or_default();
        let _ = self.file(self.session.next(), &event, shard, "marriage").await;
    }

    async fn file_death(&self, known: &[RecordId]) {
        let record = known[self.pick(known.len())];
        // Whoever dies is a member of no household any more, and those are counted.
        let is_member = {
            let ledger = self.oracle.ledger();
            ledger.households.values().flatten().any(|(_, members)| members.contains(&record))
        };
        let Some(deceased) = (if is_member { None } else { self.read(record, FILE_NUMBER).await }) else { return };
        let event = Death::of(&deceased, day("2025-12-31")).build(&self.context);
        let shard = deceased.shard.parse().unwrap_or_default();
        let _ = self.file(self.session.next(), &event, shard, "death").await;
    }

    /// Confirms or rejects something that waits for a second person; also what he wrote himself, which is refused.
    async fn settle(&self, shard: ShardId) {
        let Ok(list) = self.client.pending(&self.context, Some(shard), &[]).await else { return };
        let Some(entry) = list.entries.get(self.pick(list.entries.len().max(1))) else { return };
        let shown: BTreeSet<&str> = list.entries.iter().map(|entry| entry.record.as_str()).collect();
        self.was_shown(Looked::Pending, &shard.to_string(), whole(shard));
        for record in shown.into_iter().filter_map(|record| record.parse::<RecordId>().ok()) {
            self.was_shown(Looked::Shown, &shard.to_string(), record.0);
        }
        let Ok(record) = entry.record.parse() else { return };
        let (standing, work) = match self.pick(3) {
            0 => (Standing::Rejected, "rejection"),
            _ => (Standing::Confirmed, "confirmation"),
        };
        let judgement =
            Judgement { record, edit: entry.hash.clone(), standing, grounds: "theo sổ hộ tịch".to_owned() };
        if let Became::Accepted = self.send(self.session.next(), Sent::Judgement(&judgement), shard, work).await
            && entry.subject == self.subject
        {
            let text = format!("{} settled an edit of his own, of {record}", self.subject);
            self.oracle.ledger().contradictions.push(text);
        }
    }

    /// Of a field that others edit too.
    async fn file_correction(&self, record: RecordId) {
        let Some(found) = self.read(record, FILE_NUMBER).await else { return };
        let (value, shard) = (self.value(), found.shard.parse().unwrap_or_default());
        let mut event = EventBuilder::new(&self.context, Event::Correction);
        let person = event.about("person", &found);
        event.correct(person, FILE_NUMBER.name, "", &FILE_NUMBER.text(value)).grounds("Quyết định 1/QĐ-UBND");
        let asked = Asked::Write { overwrites: FILE_NUMBER.values(&found), id: value };
        let operation = self.called(FILE_NUMBER.key(record), asked);
        match self.file(self.session.next(), &event, shard, "correction").await {
            Became::Accepted => self.answered(operation, Answered::Accepted),
            Became::Stale(told) => {
                if let Some(lie) = super::lie(&told, &found, FILE_NUMBER) {
                    self.oracle.ledger().contradictions.push(format!("a correction: {lie}"));
                }
                self.answered(operation, Answered::Stale);
            }
            Became::Refused => self.answered(operation, Answered::Refused),
            Became::Unknown => {}
        }
    }

    /// Files an event, and what was accepted once more: it is told the same.
    async fn file(&self, request: RequestId, event: &EventBuilder, shard: ShardId, work: &'static str) -> Became {
        let became = self.send(request, Sent::Event(event), shard, work).await;
        if let Became::Accepted = became {
            self.keep_filed(request, event);
            if self.pick(4) == 0 {
                self.file_again().await;
            }
        }
        became
    }

    /// Keeps an event to be filed again one day, mostly one of before.
    fn keep_filed(&self, request: RequestId, event: &EventBuilder) {
        let is_next = self.pick(4) == 0;
        let mut filed = self.filed.lock().unwrap_or_else(PoisonError::into_inner);
        if is_next || filed.is_none() {
            *filed = Some((request, event.clone()));
        }
    }

    /// Files once more what was accepted; perhaps long ago, and by a disk that is another one now.
    async fn file_again(&self) {
        let filed = self.filed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((request, event)) = filed else { return };
        let again = self.client.file_as(request, &event).await;
        if let Some(told) = self.is_wrong_again(request, again) {
            let text = format!("{request} was filed again, and told to be {told}");
            self.oracle.ledger().contradictions.push(text);
        }
    }

    /// What is wrong with an answer to an accepted event that was filed again.
    fn is_wrong_again(&self, request: RequestId, again: Result<Accepted, Error>) -> Option<&'static str> {
        let forgets = self.forgets();
        let ledger = self.oracle.ledger();
        let hash = ledger.told.get(&request).map(|told| told.hash);
        match again {
            _ if forgets => None,
            Err(Error::Stale(_)) => Some("stale"),
            Ok(again) if !again.replayed => Some("accepted as a new one"),
            Ok(again) if hash.is_none_or(|hash| hash.0[..] != again.receipt.hash[..]) => Some("another edit"),
            Err(Error::Refused { code: Code::AlreadyExists, .. }) => Some("another request"),
            Ok(_)
            | Err(
                Error::Refused { .. } | Error::OutcomeUnknown { .. } | Error::Unreachable { .. } | Error::Protocol(_),
            ) => None,
        }
    }
}
