//! The roll of a commune on a day: see `dinhba_core::roll`.
//!
//! Each record is folded as it was in law, so a roll costs what the histories of all residents have; it goes in pages, and holds
//! nothing up.

use dinhba_core::date::Date;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::RecordId;
use dinhba_core::record::Record;
use dinhba_core::registry::{AsOf, Past, ShardState, as_of, corrupt, record_of};
use dinhba_core::roll::Roll;
use dinhba_core::schema::{Content, field};
use dinhba_core::store::StoreError;
use dinhba_proto::v1;
use tonic::Status;

use super::RecordsService;
use crate::hosted::Hosted;
use crate::service::answer::{broken, wrong};

/// Records that are looked at for one page: a page takes a moment, also where few are on the roll.
const LOOKED_AT: usize = 200;

/// The oldest age that can be asked for.
const AGE_MAX: u16 = 200;

/// Reads what is asked for.
pub(super) fn roll_from_wire(request: &v1::RollRequest) -> Result<Roll, Status> {
    let on: Date = request.on.parse().map_err(|_| wrong("on", "write the day as 2026-05-24"))?;
    let age = |what: &str, age: u32| match u16::try_from(age) {
        Ok(age) if age <= AGE_MAX => Ok(age),
        _ => Err(wrong(what, format!("an age has at most {AGE_MAX} years"))),
    };
    let (age_min, age_max) = (age("age_min", request.age_min)?, age("age_max", request.age_max)?);
    let age_max = if (age_min, age_max) == (0, 0) { AGE_MAX } else { age_max };
    if age_max < age_min {
        return Err(wrong(
            "age_max",
            "nobody is younger than age_max and older than age_min: give the lower one as age_min",
        ));
    }
    Ok(Roll { on, age_min, age_max })
}

impl RecordsService {
    /// The next page of a roll, and where the one after it begins.
    pub(super) fn roll_page(
        &self,
        hosted: &Hosted,
        shard: &ShardState,
        roll: Roll,
        from: Option<Vec<u8>>,
    ) -> Result<(Vec<v1::RollEntry>, Option<Vec<u8>>), Status> {
        let (start, to) = hosted.keys().records(shard.info.shard);
        let from = from.unwrap_or(start);
        let of_day = AsOf { known: None, in_law: Some(roll.on) };
        let found = hosted.look(|view| {
            let (mut entries, mut last, mut seen) = (Vec::new(), None, 0);
            for item in view.scan(&from, &to).take(LOOKED_AT) {
                let (key, value) = item?;
                let id = record_of(&key)?;
                let now = Record::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
                let (was, is_long) = match as_of(view, &hosted.context, shard.info.shard, id, of_day)? {
                    Past::Record(record) => (Some(record), false),
                    Past::Nothing => (None, false),
                    // What it says now is more than nothing.
                    Past::TooLong => (Some(now), true),
                };
                if let Some(record) = was
                    && let Some(listed) = roll.lists(&record, shard.info.home())
                {
                    entries.push(entry(id, &record, listed.is_doubtful || is_long));
                }
                (last, seen) = (Some(key), seen + 1);
            }
            Ok::<_, StoreError>((entries, last.filter(|_| seen == LOOKED_AT)))
        });
        let (entries, last) = found.map_err(|error| broken(&error))?;
        Ok((entries, last.map(|key| [key.as_slice(), &[0]].concat())))
    }
}

/// What a roll shows of a person.
fn entry(id: RecordId, record: &Record, doubtful: bool) -> v1::RollEntry {
    let value = |field| record.value(field, b"");
    let line = value(field::PERMANENT_RESIDENCE).and_then(|residence| match residence.part("line") {
        Some(Content::Text(line)) => Some(line.clone()),
        _ => None,
    });
    v1::RollEntry {
        record: id.to_string(),
        name: value(field::NAME).and_then(|name| name.spoken()).unwrap_or_default(),
        birth_date: value(field::BIRTH_DATE)
            .and_then(|born| born.date())
            .map(|born| born.to_string())
            .unwrap_or_default(),
        sex: value(field::SEX).and_then(|sex| sex.code()).unwrap_or_default().to_owned(),
        personal_number: value(field::PERSONAL_NUMBER)
            .and_then(|number| number.number())
            .map(|number| number.to_string())
            .unwrap_or_default(),
        line: line.unwrap_or_default(),
        doubtful,
    }
}
