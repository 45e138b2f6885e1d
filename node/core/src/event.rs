//! Events: what happened in law, as the forms of the offices have it. A birth, a move of house or a card is one edit, and
//! says of itself which event it is: history, change feed and figures speak of events, not of fields.
//!
//! Owns: the list of events, and for each its form: whom it is about, what is asked, by which law. A form is a table: the
//! door reads it, the command line asks it, the documents print it. What an event makes of the records is in `filing`.
//! Codes of events are permanent: they are hashed and kept for ever. So are the places of roles and inputs in their lists, since
//! a command names them so: one is only ever added, at the end. Names are read by programs, and do not change either.
//!
//! Laws: sources as in the domain's own notes; an article that was not checked against the text is marked (M) there.

mod forms;

use std::fmt;

use crate::level::LEVEL_FIRST;
use crate::schema::{FieldId, RecordKind, Type};

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

impl Form {
    /// The part of that name, with its place.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<(u8, &'static Role)> {
        let at = self.roles.iter().position(|role| role.name == name)?;
        Some((u8::try_from(at).ok()?, &self.roles[at]))
    }
}

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
