//! Events: what happened in law, as the forms of the offices have it. A birth, a move of house or a card is one edit, and
//! says of itself which event it is: history, change feed and figures speak of events, not of fields.
//!
//! Owns: the list of events, and for each its form: whom it is about, what is asked, by which law. A form is a table: the
//! door reads it, the command line asks it, the documents print it. What an event makes of the records is in `filing`.
//! Codes of events are permanent: they are hashed and kept for ever. So are the places of roles and inputs in their lists, since
//! a command names them so: one is only ever added, at the end. Names are read by programs, and do not change either.
//!
//! Laws: sources as in the domain's own notes; an article that was not checked against the text is marked (M) there.

use std::fmt;

use crate::level::LEVEL_FIRST;
use crate::schema::{FieldId, RecordKind, Type, field};

/// Inputs of a form, and of each of its subjects: none has half as many.
pub const INPUTS_MAX: usize = 32;
/// Records that one event is about: a household with all who live in it.
pub const SUBJECTS_MAX: usize = 32;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $label:literal;)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Event {
            $($(#[$doc])* $variant,)*
            /// An event of a newer version, in an edit that came from elsewhere; its code.
            Unknown(u8),
        }

        impl Event {
            /// All that this version knows, in the order of their codes.
            pub const ALL: &[Event] = &[$(Event::$variant),*];

            /// Its name, as in files, on the wire and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Event::$variant => $name,)*
                    Event::Unknown(_) => "unknown",
                }
            }

            /// Its name for officers.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Event::$variant => $label,)*
                    Event::Unknown(_) => "Sự kiện của phiên bản mới hơn",
                }
            }

            /// The feature level that brought it; none if this version does not know it.
            #[must_use]
            pub const fn since(self) -> Option<u16> {
                match self {
                    $(Event::$variant)|* => Some(LEVEL_FIRST),
                    Event::Unknown(_) => None,
                }
            }
        }

        crate::wire_code! { open Event { $($code => $variant),* } }
    };
}

events! {
    /// Fields were changed; which event it was nobody said.
    Change = 0, "change", "Cập nhật thông tin";
    /// A child was born.
    Birth = 1, "birth", "Đăng ký khai sinh";
    /// Somebody died.
    Death = 2, "death", "Đăng ký khai tử";
    /// A court declared somebody missing.
    Disappearance = 3, "disappearance", "Tuyên bố mất tích";
    /// Somebody who was declared missing or dead came back.
    Return = 4, "return", "Hủy tuyên bố mất tích hoặc đã chết";
    /// Two persons married.
    Marriage = 5, "marriage", "Đăng ký kết hôn";
    /// A court divorced them.
    Divorce = 6, "divorce", "Ghi chú ly hôn";
    /// A child was adopted.
    Adoption = 7, "adoption", "Đăng ký nuôi con nuôi";
    /// A parent recognised a child.
    Recognition = 8, "recognition", "Đăng ký nhận cha, mẹ, con";
    /// A name was changed.
    NameChange = 9, "name-change", "Thay đổi họ, chữ đệm, tên";
    /// The sex was determined anew.
    SexChange = 10, "sex-change", "Xác định lại giới tính";
    /// A nationality was acquired or lost.
    NationalityChange = 11, "nationality-change", "Thay đổi quốc tịch";
    /// What a record says was wrong.
    Correction = 12, "correction", "Điều chỉnh thông tin";
    /// The spouse died, who is in the register of another commune.
    Widowhood = 13, "widowhood", "Ghi chú vợ hoặc chồng chết";
    /// Somebody settled for good.
    PermanentResidence = 20, "permanent-residence", "Đăng ký thường trú";
    /// The entry of a permanent residence ended.
    PermanentResidenceEnd = 21, "permanent-residence-end", "Xóa đăng ký thường trú";
    /// Somebody settled for a while.
    TemporaryResidence = 22, "temporary-residence", "Đăng ký tạm trú";
    /// A temporary residence goes on.
    TemporaryResidenceRenewal = 23, "temporary-residence-renewal", "Gia hạn tạm trú";
    /// The entry of a temporary residence ended.
    TemporaryResidenceEnd = 24, "temporary-residence-end", "Xóa đăng ký tạm trú";
    /// Somebody is away for a while.
    TemporaryAbsence = 25, "temporary-absence", "Khai báo tạm vắng";
    /// Somebody came back.
    TemporaryAbsenceEnd = 26, "temporary-absence-end", "Kết thúc tạm vắng";
    /// Somebody stays for a few days.
    Stay = 27, "stay", "Thông báo lưu trú";
    /// Where somebody lives who has no residence.
    Dwelling = 28, "dwelling", "Khai báo nơi ở hiện tại";
    /// A household began.
    HouseholdFounded = 40, "household-founded", "Lập hộ";
    /// Persons joined a household.
    HouseholdJoined = 41, "household-joined", "Nhập hộ";
    /// Persons left a household.
    HouseholdLeft = 42, "household-left", "Rời hộ";
    /// A part of a household is one of its own.
    HouseholdSplit = 43, "household-split", "Tách hộ";
    /// The members of one household went over to another.
    HouseholdMerged = 44, "household-merged", "Gộp hộ";
    /// Somebody else is the head of a household.
    HeadChanged = 45, "head-changed", "Thay đổi chủ hộ";
    /// A household ended.
    HouseholdDissolved = 46, "household-dissolved", "Giải thể hộ";
    /// A card was asked for.
    CardRequested = 60, "card-requested", "Đề nghị cấp thẻ căn cước";
    /// Photograph and data for a card were taken; the pictures are elsewhere.
    CardCaptured = 61, "card-captured", "Thu nhận hồ sơ căn cước";
    /// A card was approved.
    CardApproved = 62, "card-approved", "Duyệt hồ sơ căn cước";
    /// A card was made.
    CardProduced = 63, "card-produced", "Sản xuất thẻ căn cước";
    /// A card was handed over.
    CardDelivered = 64, "card-delivered", "Trả thẻ căn cước";
    /// A card was lost.
    CardLost = 65, "card-lost", "Báo mất thẻ căn cước";
    /// A card was damaged.
    CardDamaged = 66, "card-damaged", "Báo hỏng thẻ căn cước";
    /// A card was revoked.
    CardRevoked = 67, "card-revoked", "Thu hồi thẻ căn cước";
    /// A card is held while its bearer is detained.
    CardHeld = 68, "card-held", "Giữ thẻ căn cước";
    /// A card that was held was given back.
    CardReturned = 69, "card-returned", "Trả lại thẻ căn cước bị giữ";
    /// A card that was asked for is not given.
    CardRejected = 70, "card-rejected", "Từ chối cấp thẻ căn cước";
    /// An account of level 1 was given.
    AccountLevel1 = 80, "account-level-1", "Cấp tài khoản định danh mức độ 1";
    /// An account of level 2 was given.
    AccountLevel2 = 81, "account-level-2", "Cấp tài khoản định danh mức độ 2";
    /// An account was activated.
    AccountActivated = 82, "account-activated", "Kích hoạt tài khoản định danh";
    /// An account was locked.
    AccountLocked = 83, "account-locked", "Khóa tài khoản định danh";
    /// An account was unlocked.
    AccountUnlocked = 84, "account-unlocked", "Mở khóa tài khoản định danh";
    /// An account was closed.
    AccountClosed = 85, "account-closed", "Đóng tài khoản định danh";
    /// A personal number was given.
    NumberAssigned = 100, "number-assigned", "Xác lập số định danh cá nhân";
    /// A personal number was cancelled.
    NumberCancelled = 101, "number-cancelled", "Hủy số định danh cá nhân";
    /// Another personal number was given in the place of a cancelled one.
    NumberReestablished = 102, "number-reestablished", "Xác lập lại số định danh cá nhân";
    /// A digitised paper was filed.
    PaperAttached = 110, "paper-attached", "Lưu giấy tờ số hóa";
    /// A service was asked for that several authorities do.
    DossierOpened = 120, "dossier-opened", "Tiếp nhận hồ sơ liên thông";
    /// A step of it was done.
    DossierStepDone = 121, "dossier-step-done", "Giải quyết xong một bước hồ sơ";
    /// Papers are missing for a step.
    DossierPapersAsked = 122, "dossier-papers-asked", "Yêu cầu bổ sung giấy tờ";
    /// They were brought.
    DossierPapersBrought = 123, "dossier-papers-brought", "Đã bổ sung giấy tờ";
    /// A step was refused.
    DossierStepRejected = 124, "dossier-step-rejected", "Từ chối một bước hồ sơ";
    /// A step is taken up again.
    DossierStepReopened = 125, "dossier-step-reopened", "Giải quyết lại một bước hồ sơ";
    /// A dossier was closed before its steps were done.
    DossierClosed = 126, "dossier-closed", "Đóng hồ sơ liên thông";
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Event {
    /// The event of that name, if it has a form.
    #[must_use]
    pub fn named(name: &str) -> Option<Event> {
        Form::ALL.iter().find(|form| form.event.name() == name).map(|form| form.event)
    }

    /// Whether it gives somebody a personal number, which its form may leave open.
    #[must_use]
    pub fn gives_number(self) -> bool {
        matches!(self, Event::Birth | Event::NumberAssigned | Event::NumberReestablished)
    }

    /// Its form; none of a mere change, and of an event of a newer version.
    #[must_use]
    pub fn form(self) -> Option<&'static Form> {
        Form::ALL.iter().find(|form| form.event == self)
    }
}

/// The form of an event.
#[derive(Debug)]
pub struct Form {
    /// The event.
    pub event: Event,
    /// What it is, in English.
    pub title: &'static str,
    /// The law it follows.
    pub law: &'static str,
    /// Whom it is about.
    pub roles: &'static [Role],
    /// What is asked about the event as a whole.
    pub inputs: &'static [Input],
    /// Whether any fields of its subjects may be corrected by it, beside its inputs.
    pub corrects: bool,
    /// Whether it needs grounds: the decision or judgment that it rests on.
    pub needs_grounds: bool,
}

/// A part that a record has in an event.
#[derive(Debug)]
pub struct Role {
    /// Its name.
    pub name: &'static str,
    /// Its name for officers.
    pub label: &'static str,
    /// What the record is.
    pub kind: RecordKind,
    /// Whether the event makes the record.
    pub is_new: bool,
    /// How many records have this part: at least and at most.
    pub count: (usize, usize),
    /// Whether the event's inputs that go into a field go into its records.
    pub is_main: bool,
    /// What is asked about each of its records.
    pub inputs: &'static [Input],
}

/// Something that a form asks for.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// The field whose value it is, or is a part of. It gives its type, and its name for officers.
    pub field: FieldId,
    /// Which part of the field, if it is one.
    pub part: Option<&'static str>,
    /// Whether the form is refused without it.
    pub is_required: bool,
    /// What becomes of it.
    pub goes: Goes,
    /// Its name for officers, if it is not that of the field or the part.
    pub called: Option<&'static str>,
}

/// What becomes of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    /// Into the field; the parts that are not given are left out.
    Field,
    /// Into the field, under this element key.
    Element(&'static str),
    /// Into the present value of the field, the other parts of which stay.
    Amends,
    /// Wherever the event itself puts it.
    Event,
}

impl Input {
    /// What may be typed for it.
    #[must_use]
    pub fn ty(&self) -> Option<&'static Type> {
        let ty = &self.field.get()?.ty;
        match (self.part, ty) {
            (None, ty) => Some(ty),
            (Some(name), Type::Struct(of)) => of.parts.iter().find(|part| part.name == name).map(|part| &part.ty),
            (Some(_), _) => None,
        }
    }

    /// Its name for officers.
    #[must_use]
    pub fn label(&self) -> &'static str {
        if let Some(called) = self.called {
            return called;
        }
        let Some(field) = self.field.get() else { return self.name };
        match (self.part, &field.ty) {
            (Some(name), Type::Struct(of)) => {
                of.parts.iter().find(|part| part.name == name).map_or(field.label, |part| part.label)
            }
            _ => field.label,
        }
    }
}

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

    /// The part of that name, with its place.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<(u8, &'static Role)> {
        let at = self.roles.iter().position(|role| role.name == name)?;
        Some((u8::try_from(at).ok()?, &self.roles[at]))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::encoding::Wire;

    #[test]
    fn every_event_but_a_mere_change_has_one_form_that_holds_together() {
        let filed: Vec<Event> = Form::ALL.iter().map(|form| form.event).collect();
        assert_eq!([&[Event::Change], filed.as_slice()].concat(), Event::ALL);
        let names: BTreeSet<&str> = Event::ALL.iter().map(|event| event.name()).collect();
        assert_eq!(names.len(), Event::ALL.len());
        for form in Form::ALL {
            assert_eq!(Event::named(form.event.name()), Some(form.event));
            let of_roles = form.roles.iter().flat_map(|role| role.inputs);
            for input in form.inputs.iter().chain(of_roles) {
                assert!(input.ty().is_some(), "{}: {}", form.event, input.name);
                assert!(!matches!((input.part, input.ty()), (Some(_), Some(Type::Struct(_)))));
            }
            let unique = |inputs: &[Input]| {
                let names: BTreeSet<&str> = inputs.iter().map(|input| input.name).collect();
                assert!(names.len() == inputs.len() && inputs.len() <= INPUTS_MAX, "{}", form.event);
            };
            unique(form.inputs);
            form.roles.iter().for_each(|role| unique(role.inputs));
            // What goes into a field must find one in its record.
            for role in form.roles {
                let goes_in = |input: &&Input| input.goes != Goes::Event;
                let of_event = form.inputs.iter().filter(|_| role.is_main);
                for input in role.inputs.iter().chain(of_event).filter(goes_in) {
                    let kind = input.field.get().expect("a field").kind;
                    assert!(kind == role.kind, "{}: {} of {}", form.event, input.name, role.name);
                }
            }
            // A word of a command line is one of them.
            let inputs = || form.inputs.iter().chain(form.roles.iter().flat_map(|role| role.inputs));
            for role in form.roles {
                assert!(inputs().all(|input| input.name != role.name), "{}: {}", form.event, role.name);
                let is_field = |kind| FieldId::named(kind, role.name).is_some();
                assert!(!form.corrects || !RecordKind::OF_PEOPLE.into_iter().any(is_field), "{}", role.name);
            }
            let at_most: usize = form.roles.iter().map(|role| role.count.1).sum();
            assert!(at_most <= SUBJECTS_MAX, "{}", form.event);
        }
    }

    #[test]
    fn codes_of_events_are_kept_as_they_came() {
        for code in 0..=u8::MAX {
            let event = Event::from_bytes(&[code]).unwrap();
            assert_eq!(event.to_bytes(), [code]);
            assert_eq!(Event::ALL.contains(&event), event.since().is_some());
        }
    }
}
