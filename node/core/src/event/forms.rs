//! The table of forms: whom each event is about, what is asked, by which law.

use super::{Event, Form, Goes, Input, Role, SUBJECTS_MAX};
use crate::schema::{FieldId, RecordKind, field};

const fn asked(name: &'static str, field: FieldId) -> Input {
    Input { name, field, part: None, is_required: false, goes: Goes::Field, called: None }
}

impl Input {
    const fn required(self) -> Self {
        Input { is_required: true, ..self }
    }
    const fn part(self, part: &'static str) -> Self {
        Input { part: Some(part), ..self }
    }
    const fn goes(self, goes: Goes) -> Self {
        Input { goes, ..self }
    }
    const fn called(self, label: &'static str) -> Self {
        Input { called: Some(label), ..self }
    }
}

const fn person(name: &'static str, label: &'static str, count: (usize, usize), inputs: &'static [Input]) -> Role {
    Role { name, label, kind: RecordKind::Person, is_new: false, count, is_main: true, inputs }
}

const fn household(name: &'static str, label: &'static str, inputs: &'static [Input]) -> Role {
    Role { name, label, kind: RecordKind::Household, is_new: false, count: (1, 1), is_main: true, inputs }
}

const fn dossier(count: (usize, usize)) -> Role {
    Role {
        name: "dossier",
        label: "Hồ sơ liên thông",
        kind: RecordKind::Dossier,
        is_new: false,
        count,
        is_main: true,
        inputs: &[],
    }
}

impl Role {
    const fn made(self) -> Self {
        Role { is_new: true, ..self }
    }
    /// Not one of those whom the event's inputs are about.
    const fn beside(self) -> Self {
        Role { is_main: false, ..self }
    }
}

const ONE: (usize, usize) = (1, 1);
const PERHAPS: (usize, usize) = (0, 1);
const PERSON: Role = person("person", "Người được đăng ký", ONE, &[]);
const PERSONS: Role = person("person", "Người được đăng ký", (1, 16), &[]);
/// The first household of an event leaves room for head and household beside them.
const MEMBERS_MAX: usize = SUBJECTS_MAX - 3;

/// The dossier of which the event does a step.
const OF_DOSSIER: Role = dossier(PERHAPS).beside();
/// Which step of a dossier.
const STEP: Input = asked("step", field::DOSSIER_STEP).part("step").required().goes(Goes::Event);

/// The paper that an event rests on.
const PAPER: [Input; 4] = [
    asked("paper", field::DOCUMENT).part("kind").goes(Goes::Event),
    asked("paper-number", field::DOCUMENT).part("number").goes(Goes::Event),
    asked("paper-issued", field::DOCUMENT).part("issued").goes(Goes::Event),
    asked("paper-issued-by", field::DOCUMENT).part("issued_by").goes(Goes::Event),
];
/// Inputs, and after them the paper's.
macro_rules! and_paper {
    ($($input:expr),+) => { &[$($input,)+ PAPER[0], PAPER[1], PAPER[2], PAPER[3]] };
}
const UNIT_OF_RESIDENCE: Input = asked("unit", field::PERMANENT_RESIDENCE).part("unit").required();
const LINE_OF_RESIDENCE: Input = asked("line", field::PERMANENT_RESIDENCE).part("line");
const RELATION: Input = asked("relation", field::RELATION_TO_HEAD).required().goes(Goes::Event);
const CARD_DATES: [Input; 3] = [
    asked("issued", field::IDENTITY_CARD).part("issued").goes(Goes::Event),
    asked("issued-by", field::IDENTITY_CARD).part("issued_by").goes(Goes::Event),
    asked("valid-to", field::IDENTITY_CARD).part("valid_to").goes(Goes::Event),
];
/// The day of an event that no field keeps.
const DATE: Input = asked("date", field::DEATH_DATE).goes(Goes::Event).called("Ngày");
const DATE_AND_PAPER: &[Input] = and_paper!(DATE);

const fn form(
    event: Event,
    title: &'static str,
    law: &'static str,
    roles: &'static [Role],
    inputs: &'static [Input],
) -> Form {
    Form { event, title, law, roles, inputs, corrects: false, needs_grounds: false }
}

impl Form {
    const fn by_decision(self) -> Self {
        Form { needs_grounds: true, ..self }
    }
    const fn corrects(self) -> Self {
        Form { corrects: true, ..self }
    }

    /// Every form, in the order of the events.
    pub const ALL: &[Form] = &[
        form(
            Event::Birth,
            "A birth",
            "Law on Civil Status 60/2014/QH13, article 15; Decree 63/2024",
            &[
                person(
                    "child",
                    "Trẻ được khai sinh",
                    ONE,
                    &[
                        asked("name", field::NAME).required(),
                        asked("sex", field::SEX).required(),
                        asked("birth-date", field::BIRTH_DATE).required(),
                        asked("birth-place", field::BIRTH_PLACE),
                        asked("registration-place", field::BIRTH_REGISTRATION_PLACE),
                        asked("origin", field::ORIGIN),
                        asked("ethnicity", field::ETHNICITY),
                        asked("religion", field::RELIGION),
                        asked("nationality", field::NATIONALITY),
                        asked("number", field::PERSONAL_NUMBER),
                        asked("father-named", field::RELATIVE).goes(Goes::Element("father")).called("Cha"),
                        asked("mother-named", field::RELATIVE).goes(Goes::Element("mother")).called("Mẹ"),
                        asked("residence", field::PERMANENT_RESIDENCE),
                        asked("relation", field::RELATION_TO_HEAD).goes(Goes::Event),
                    ],
                )
                .made(),
                person("mother", "Mẹ", PERHAPS, &[]).beside(),
                person("father", "Cha", PERHAPS, &[]).beside(),
                Role { count: PERHAPS, ..household("household", "Hộ", &[]) }.beside(),
                OF_DOSSIER,
            ],
            &PAPER,
        ),
        form(
            Event::Death,
            "A death",
            "Law on Civil Status 60/2014/QH13, article 33; Law on Residence 68/2020/QH14, article 24",
            &[
                person("deceased", "Người chết", ONE, &[]),
                person("spouse", "Vợ hoặc chồng", PERHAPS, &[]).beside(),
                OF_DOSSIER,
            ],
            and_paper!(asked("date", field::DEATH_DATE).required()),
        ),
        form(
            Event::Disappearance,
            "A declaration that somebody is missing",
            "Civil Code 91/2015/QH13, article 68",
            &[PERSON],
            and_paper!(asked("date", field::DISAPPEARANCE_DATE).required()),
        )
        .by_decision(),
        form(
            Event::Return,
            "The return of somebody who was declared missing or dead",
            "Civil Code 91/2015/QH13, articles 70 and 73",
            &[PERSON],
            DATE_AND_PAPER,
        )
        .by_decision(),
        form(
            Event::Marriage,
            "A marriage",
            "Law on Marriage and Family 52/2014/QH13, article 8",
            &[person("spouse", "Vợ, chồng", (1, 2), &[])],
            and_paper!(
                asked("date", field::MARITAL_STATUS).part("since").required().goes(Goes::Event),
                // The one who is in the register of another commune.
                asked("other", field::RELATIVE).goes(Goes::Event)
            ),
        ),
        form(
            Event::Divorce,
            "A divorce",
            "Law on Marriage and Family 52/2014/QH13, article 57",
            &[person("spouse", "Vợ, chồng", (1, 2), &[])],
            and_paper!(asked("date", field::MARITAL_STATUS).part("since").required().goes(Goes::Event)),
        )
        .by_decision(),
        form(
            Event::Adoption,
            "An adoption",
            "Law on Adoption 52/2010/QH12, article 22",
            &[person(
                "child",
                "Con nuôi",
                ONE,
                &[
                    asked("father", field::RELATIVE).goes(Goes::Element("father")),
                    asked("mother", field::RELATIVE).goes(Goes::Element("mother")),
                    asked("name", field::NAME),
                ],
            )],
            DATE_AND_PAPER,
        )
        .by_decision(),
        form(
            Event::Recognition,
            "The recognition of a child by a parent",
            "Law on Civil Status 60/2014/QH13, article 24",
            &[person(
                "child",
                "Con",
                ONE,
                &[
                    asked("father", field::RELATIVE).goes(Goes::Element("father")),
                    asked("mother", field::RELATIVE).goes(Goes::Element("mother")),
                ],
            )],
            DATE_AND_PAPER,
        )
        .by_decision(),
        form(
            Event::NameChange,
            "A change of name",
            "Civil Code 91/2015/QH13, articles 27 and 28",
            &[person("person", "Người được thay đổi", ONE, &[asked("name", field::NAME).required()])],
            DATE_AND_PAPER,
        )
        .by_decision(),
        form(
            Event::SexChange,
            "A new determination of the sex",
            "Civil Code 91/2015/QH13, article 36",
            &[person("person", "Người được thay đổi", ONE, &[asked("sex", field::SEX).required()])],
            DATE_AND_PAPER,
        )
        .by_decision(),
        form(
            Event::NationalityChange,
            "A nationality acquired or lost",
            "Law on Vietnamese Nationality 24/2008/QH12",
            &[person("person", "Người được thay đổi", ONE, &[asked("nationality", field::NATIONALITY).required()])],
            and_paper!(DATE.required()),
        )
        .by_decision(),
        form(
            Event::Correction,
            "A correction of what a record says",
            "Decree 70/2024, article 6",
            &[
                person("person", "Người được điều chỉnh", PERHAPS, &[]),
                Role { count: PERHAPS, ..household("of-household", "Hộ được điều chỉnh", &[]) },
            ],
            // From when it was wrong; without it, facts of the birth were so from then on.
            DATE_AND_PAPER,
        )
        .by_decision()
        .corrects(),
        form(
            Event::Widowhood,
            "The death of a spouse who is in the register of another commune",
            "Law on Marriage and Family 52/2014/QH13, article 65",
            &[PERSON],
            and_paper!(asked("date", field::MARITAL_STATUS).part("since").required().goes(Goes::Event)),
        )
        .by_decision(),
        form(
            Event::PermanentResidence,
            "A permanent residence",
            "Law on Residence 68/2020/QH14, articles 20 to 22",
            &[PERSONS, OF_DOSSIER],
            &[
                UNIT_OF_RESIDENCE,
                LINE_OF_RESIDENCE,
                asked("since", field::PERMANENT_RESIDENCE).part("since").required(),
                asked("file-number", field::RESIDENCE_FILE_NUMBER),
            ],
        ),
        form(
            Event::PermanentResidenceEnd,
            "The end of a permanent residence",
            "Law on Residence 68/2020/QH14, article 24",
            &[PERSONS, OF_DOSSIER],
            &[
                asked("date", field::PERMANENT_RESIDENCE).part("until").required().goes(Goes::Amends),
                asked("reason", field::PERMANENT_RESIDENCE).part("end").required().goes(Goes::Amends),
            ],
        ),
        form(
            Event::TemporaryResidence,
            "A temporary residence",
            "Law on Residence 68/2020/QH14, articles 27 and 28",
            &[PERSONS],
            &[
                asked("unit", field::TEMPORARY_RESIDENCE).part("unit").required(),
                asked("line", field::TEMPORARY_RESIDENCE).part("line"),
                asked("from", field::TEMPORARY_RESIDENCE).part("from").required(),
                asked("until", field::TEMPORARY_RESIDENCE).part("until").required(),
            ],
        ),
        form(
            Event::TemporaryResidenceRenewal,
            "A temporary residence that goes on",
            "Law on Residence 68/2020/QH14, article 27",
            &[PERSONS],
            &[
                asked("from", field::TEMPORARY_RESIDENCE).part("from").required().goes(Goes::Amends),
                asked("until", field::TEMPORARY_RESIDENCE).part("until").required().goes(Goes::Amends),
            ],
        ),
        form(
            Event::TemporaryResidenceEnd,
            "The end of a temporary residence",
            "Law on Residence 68/2020/QH14, article 29",
            &[PERSONS],
            &[
                asked("date", field::TEMPORARY_RESIDENCE).part("ended").required().goes(Goes::Amends),
                asked("reason", field::TEMPORARY_RESIDENCE).part("end").required().goes(Goes::Amends),
            ],
        ),
        form(
            Event::TemporaryAbsence,
            "A declared absence",
            "Law on Residence 68/2020/QH14, article 31",
            &[PERSONS],
            &[
                asked("from", field::TEMPORARY_ABSENCE).part("from").required(),
                asked("until", field::TEMPORARY_ABSENCE).part("until"),
                asked("unit", field::TEMPORARY_ABSENCE).part("unit"),
                asked("reason", field::TEMPORARY_ABSENCE).part("reason"),
            ],
        ),
        form(
            Event::TemporaryAbsenceEnd,
            "The end of a declared absence",
            "Law on Residence 68/2020/QH14, article 31",
            &[PERSONS],
            &[asked("date", field::TEMPORARY_ABSENCE).part("until").required().goes(Goes::Amends)],
        ),
        form(
            Event::Stay,
            "A stay of a few days",
            "Law on Residence 68/2020/QH14, article 30",
            &[PERSONS],
            &[
                asked("unit", field::STAY).part("unit").required().goes(Goes::Event),
                asked("line", field::STAY).part("line").goes(Goes::Event),
                asked("from", field::STAY).part("from").required().goes(Goes::Event),
                asked("until", field::STAY).part("until").required().goes(Goes::Event),
                asked("reason", field::STAY).part("reason").goes(Goes::Event),
            ],
        ),
        form(
            Event::Dwelling,
            "Where somebody lives who has no residence",
            "Law on Residence 68/2020/QH14, article 19",
            &[PERSONS],
            &[
                asked("unit", field::CURRENT_DWELLING).part("unit").required(),
                asked("line", field::CURRENT_DWELLING).part("line"),
            ],
        ),
        form(
            Event::HouseholdFounded,
            "A new household",
            "Law on Residence 68/2020/QH14, article 10",
            &[
                household("household", "Hộ", &[]).made(),
                person("head", "Chủ hộ", ONE, &[]).beside(),
                person("member", "Thành viên", (0, MEMBERS_MAX), &[RELATION]).beside(),
            ],
            &HOUSEHOLD_INPUTS,
        ),
        form(
            Event::HouseholdJoined,
            "Persons who join a household",
            "Law on Residence 68/2020/QH14, article 20",
            &[household("household", "Hộ", &[]), person("member", "Thành viên", (1, MEMBERS_MAX), &[RELATION])],
            &[DATE],
        ),
        form(
            Event::HouseholdLeft,
            "Persons who leave a household",
            "Law on Residence 68/2020/QH14, article 24",
            &[household("household", "Hộ", &[]), person("member", "Thành viên", (1, MEMBERS_MAX), &[])],
            &[DATE],
        ),
        form(
            Event::HouseholdSplit,
            "A part of a household that is one of its own",
            "Law on Residence 68/2020/QH14, article 25",
            &[
                household("household", "Hộ mới", &[]).made(),
                household("from", "Hộ cũ", &[]).beside(),
                person("head", "Chủ hộ", ONE, &[]).beside(),
                person("member", "Thành viên", (0, MEMBERS_MAX), &[RELATION]).beside(),
            ],
            &HOUSEHOLD_INPUTS,
        ),
        form(
            Event::HouseholdMerged,
            "A household whose members go over to another",
            "Law on Residence 68/2020/QH14, article 26",
            &[
                household("household", "Hộ nhận", &[]).beside(),
                household("from", "Hộ gộp", &[]),
                person("member", "Thành viên", (1, MEMBERS_MAX), &[RELATION]).beside(),
            ],
            &[asked("date", field::HOUSEHOLD_DISSOLVED).required()],
        ),
        form(
            Event::HeadChanged,
            "Another head of a household",
            "Law on Residence 68/2020/QH14, article 26",
            &[
                household("household", "Hộ", &[]),
                person("head", "Chủ hộ mới", ONE, &[]),
                person("member", "Thành viên", (0, MEMBERS_MAX), &[RELATION]),
            ],
            &[DATE.required()],
        ),
        form(
            Event::HouseholdDissolved,
            "The end of a household",
            "Law on Residence 68/2020/QH14, article 26",
            &[household("household", "Hộ", &[])],
            &[asked("date", field::HOUSEHOLD_DISSOLVED).required()],
        ),
        form(
            Event::CardRequested,
            "A request for an identity card",
            "Law on Identification 26/2023/QH15, articles 19 to 25",
            &[PERSON],
            &[asked("kind", field::IDENTITY_CARD).part("kind").required().goes(Goes::Event), DATE],
        ),
        form(Event::CardCaptured, "A card's data taken", CARD_LAW, &[PERSON], &[DATE]),
        form(Event::CardApproved, "A card approved", CARD_LAW, &[PERSON], &[DATE]),
        form(Event::CardProduced, "A card made", CARD_LAW, &[PERSON], &CARD_DATES),
        form(Event::CardDelivered, "A card handed over", CARD_LAW, &[PERSON], &[DATE]),
        form(Event::CardLost, "A card lost", "Law on Identification 26/2023/QH15, article 24", &[PERSON], &[DATE]),
        form(
            Event::CardDamaged,
            "A card damaged",
            "Law on Identification 26/2023/QH15, article 24",
            &[PERSON],
            &[DATE],
        ),
        form(
            Event::CardRevoked,
            "A card revoked",
            "Law on Identification 26/2023/QH15, article 29",
            &[PERSON],
            &[DATE],
        )
        .by_decision(),
        form(Event::CardHeld, "A card held", "Law on Identification 26/2023/QH15, article 29", &[PERSON], &[DATE])
            .by_decision(),
        form(
            Event::CardReturned,
            "A held card given back",
            "Law on Identification 26/2023/QH15, article 29",
            &[PERSON],
            &[DATE],
        ),
        form(Event::CardRejected, "A request for a card refused", CARD_LAW, &[PERSON], &[DATE]).by_decision(),
        form(Event::AccountLevel1, "An account of level 1", ACCOUNT_LAW, &[PERSON], &[DATE]),
        form(Event::AccountLevel2, "An account of level 2", ACCOUNT_LAW, &[PERSON], &[DATE]),
        form(Event::AccountActivated, "An account activated", ACCOUNT_LAW, &[PERSON], &[DATE]),
        form(Event::AccountLocked, "An account locked", ACCOUNT_LAW, &[PERSON], &[DATE]),
        form(Event::AccountUnlocked, "An account unlocked", ACCOUNT_LAW, &[PERSON], &[DATE]),
        form(Event::AccountClosed, "An account closed", ACCOUNT_LAW, &[PERSON], &[DATE]),
        form(
            Event::NumberAssigned,
            "A personal number",
            "Law on Identification 26/2023/QH15, article 12; Decree 70/2024, article 11",
            &[PERSON],
            &[asked("number", field::PERSONAL_NUMBER).goes(Goes::Event), DATE],
        ),
        form(
            Event::NumberCancelled,
            "A personal number cancelled",
            "Decree 70/2024, article 11",
            &[PERSON],
            &[asked("reason", field::FORMER_NUMBER).part("reason").required().goes(Goes::Event), DATE],
        )
        .by_decision(),
        form(
            Event::NumberReestablished,
            "Another personal number in the place of a cancelled one",
            "Decree 70/2024, article 11",
            &[PERSON],
            &[asked("number", field::PERSONAL_NUMBER).goes(Goes::Event), DATE],
        )
        .by_decision(),
        form(
            Event::PaperAttached,
            "A digitised paper",
            "Decree 70/2024, article 5",
            &[PERSON],
            &[
                asked("kind", field::DOCUMENT).part("kind").required().goes(Goes::Event),
                asked("number", field::DOCUMENT).part("number").goes(Goes::Event),
                asked("issued", field::DOCUMENT).part("issued").goes(Goes::Event),
                asked("issued-by", field::DOCUMENT).part("issued_by").goes(Goes::Event),
                asked("hash", field::DOCUMENT).part("hash").required().goes(Goes::Event),
                asked("bytes", field::DOCUMENT).part("bytes").required().goes(Goes::Event),
            ],
        ),
        form(
            Event::DossierOpened,
            "A service asked for that several authorities do one after the other",
            DOSSIER_LAW,
            &[dossier(ONE).made(), person("person", "Người được giải quyết", PERHAPS, &[]).beside()],
            &[
                asked("service", field::DOSSIER_SERVICE).required(),
                asked("applicant", field::DOSSIER_APPLICANT).required(),
                asked("phone", field::DOSSIER_PHONE),
                asked("date", field::DOSSIER_DECLARED),
            ],
        ),
        form(
            Event::DossierStepDone,
            "A step of such a service done",
            DOSSIER_LAW,
            &[dossier(ONE)],
            &[STEP, asked("result", field::DOSSIER_STEP).part("result").required().goes(Goes::Event), DATE],
        ),
        form(
            Event::DossierPapersAsked,
            "Papers that are missing for a step",
            DOSSIER_LAW,
            &[dossier(ONE)],
            &[STEP, asked("lacking", field::DOSSIER_STEP).part("lacking").required().goes(Goes::Event)],
        ),
        form(Event::DossierPapersBrought, "The missing papers brought", DOSSIER_LAW, &[dossier(ONE)], &[STEP]),
        form(Event::DossierStepRejected, "A step refused", DOSSIER_LAW, &[dossier(ONE)], &[STEP, DATE]).by_decision(),
        form(
            Event::DossierStepReopened,
            "A step taken up again that was refused or done",
            DOSSIER_LAW,
            &[dossier(ONE)],
            &[STEP],
        )
        .by_decision(),
        form(
            Event::DossierClosed,
            "A dossier closed before its steps were done",
            DOSSIER_LAW,
            &[dossier(ONE)],
            &[asked("date", field::DOSSIER_CLOSED).required()],
        )
        .by_decision(),
    ];
}

const HOUSEHOLD_INPUTS: [Input; 5] = [
    asked("unit", field::HOUSEHOLD_RESIDENCE).part("unit").required(),
    asked("line", field::HOUSEHOLD_RESIDENCE).part("line"),
    asked("since", field::HOUSEHOLD_RESIDENCE).part("since").required(),
    asked("file-number", field::HOUSEHOLD_FILE_NUMBER),
    asked("collective", field::COLLECTIVE),
];
const CARD_LAW: &str = "Law on Identification 26/2023/QH15, articles 19 to 25";
const DOSSIER_LAW: &str = "Decree 63/2024/NĐ-CP";
const ACCOUNT_LAW: &str = "Decree 69/2024, articles 9 to 20";
