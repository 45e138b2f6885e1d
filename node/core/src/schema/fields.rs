//! The table of fields. The numbers in brackets are those of the 26 fields of article 9, Law 26/2023/QH15.

use super::codes;
use super::{Class, Field, FieldId, Form, Part, RecordKind, Repeat, Required, Search, Second, Sensitivity, Shape};
use super::{Struct, Tense, Type};
use crate::level::LEVEL_FIRST;

/// The ids of all fields, by name.
pub mod field {
    use super::FieldId;

    macro_rules! ids {
        ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => { $($(#[$doc])* pub const $name: FieldId = FieldId($id);)* };
    }
    ids! {
        /// \[1\] Family, middle and given name at birth, as one value.
        NAME = 1;
        /// \[2\] Another name in use.
        OTHER_NAME = 2;
        /// \[3\] Personal number. Absent: "number pending".
        PERSONAL_NUMBER = 3;
        /// \[4\] Date of birth.
        BIRTH_DATE = 4;
        /// \[5\] Sex.
        SEX = 5;
        /// \[6\] Place of birth.
        BIRTH_PLACE = 6;
        /// \[7\] Place of birth registration.
        BIRTH_REGISTRATION_PLACE = 7;
        /// \[8\] Place of origin (quê quán).
        ORIGIN = 8;
        /// \[9\] Ethnicity. Sensitive.
        ETHNICITY = 9;
        /// \[10\] Religion. Sensitive.
        RELIGION = 10;
        /// \[11\] Nationality.
        NATIONALITY = 11;
        /// \[12\] Blood group. Sensitive.
        BLOOD_GROUP = 12;
        /// \[13\] Old identity number of nine digits.
        OLD_IDENTITY_NUMBER = 13;
        /// \[14\] Identity cards.
        IDENTITY_CARD = 14;
        /// \[15\] Father, mother, spouse, children, legal representatives, represented persons.
        RELATIVE = 15;
        /// \[16\] Permanent residence.
        PERMANENT_RESIDENCE = 16;
        /// \[17\] Temporary residence.
        TEMPORARY_RESIDENCE = 17;
        /// \[18\] Current dwelling.
        CURRENT_DWELLING = 18;
        /// \[19\] Declared temporary absence.
        TEMPORARY_ABSENCE = 19;
        /// \[20\] Residence file number.
        RESIDENCE_FILE_NUMBER = 20;
        /// \[21\] Marital status, and since when.
        MARITAL_STATUS = 21;
        /// \[22\] Relation to the head of the household.
        RELATION_TO_HEAD = 22;
        /// \[23\] The household; its record names the head, its members are those who name it.
        HOUSEHOLD = 23;
        /// \[24\] Date of death.
        DEATH_DATE = 24;
        /// \[24\] Date of disappearance as a court declared it.
        DISAPPEARANCE_DATE = 25;
        /// \[25\] Mobile number.
        MOBILE_NUMBER = 26;
        /// \[25\] E-mail address.
        EMAIL = 27;
        /// \[26\] Other information: documents that entries rest on.
        DOCUMENT = 28;
        /// \[26\] Other information: state of the e-identification account.
        E_IDENTIFICATION = 29;
        /// \[26\] Other information: a note of the office.
        NOTE = 30;
        /// Stays of a few days, by the day of arrival.
        STAY = 31;
        /// \[3\] Personal numbers that were cancelled, by their digits: each is nobody else's for ever.
        FORMER_NUMBER = 32;
        /// How edits of the record stand, by their hashes.
        STANDING = 33;
        /// \[23\] The head of a household.
        HEAD = 1001;
        /// Where a household lives.
        HOUSEHOLD_RESIDENCE = 1002;
        /// \[20\] Residence file number of a household.
        HOUSEHOLD_FILE_NUMBER = 1003;
        /// Whether a household is a collective one: a dormitory, barracks, a home.
        COLLECTIVE = 1004;
        /// A note of the office on a household.
        HOUSEHOLD_NOTE = 1005;
        /// When a household ended.
        HOUSEHOLD_DISSOLVED = 1006;
        /// How edits of a household's record stand, by their hashes.
        HOUSEHOLD_STANDING = 1007;
        /// The id of a site.
        SITE = 2001;
        /// The unit that it serves.
        SITE_UNIT = 2002;
        /// The site above it.
        SITE_PARENT = 2003;
        /// The keys that verify what it signs, by their names: one that was followed by another still verifies what was
        /// signed with it, one that is cleared verifies nothing any more.
        SITE_KEY = 2004;
        /// Where its nodes are reached.
        SITE_ADDRESS = 2005;
        /// The shard that it writes, of a commune's site.
        SITE_SHARD = 2006;
        /// Whether it serves its unit.
        SITE_STATE = 2007;
        /// A note of the operators.
        SITE_NOTE = 2008;
        /// The id of an administrative unit.
        UNIT = 3001;
        /// Its code.
        UNIT_CODE = 3002;
        /// Its name, with its kind in front.
        UNIT_NAME = 3003;
        /// The unit above it.
        UNIT_PARENT = 3004;
        /// Its first day.
        UNIT_FROM = 3005;
        /// Its last day.
        UNIT_TO = 3006;
        /// The resolution by which it is so.
        UNIT_GROUNDS = 3007;
        /// The first number of a block.
        BLOCK_FIRST = 4001;
        /// How many numbers it has.
        BLOCK_COUNT = 4002;
        /// The site that it is granted to.
        BLOCK_SITE = 4003;
        /// The shard in which that site uses it: a commune's, for the numbers that it assigns, or its own ancestor shard, for the
        /// blocks that it grants.
        BLOCK_SHARD = 4004;
        /// The life of that site's data that may use it, and no other one.
        BLOCK_LIFE = 4005;
        /// Which service a dossier is for.
        DOSSIER_SERVICE = 5001;
        /// The person whom it is about; absent until the child of a birth is registered.
        DOSSIER_PERSON = 5002;
        /// Who handed it in.
        DOSSIER_APPLICANT = 5003;
        /// Where the applicant is reached.
        DOSSIER_PHONE = 5004;
        /// The day on which it was handed in.
        DOSSIER_DECLARED = 5005;
        /// Its steps, by their names.
        DOSSIER_STEP = 5006;
        /// The day on which it was closed before its steps were done.
        DOSSIER_CLOSED = 5007;
        /// A note of the office on a dossier.
        DOSSIER_NOTE = 5008;
        /// How edits of a dossier's record stand, by their hashes.
        DOSSIER_STANDING = 5009;
        /// The year whose holidays a calendar says.
        CALENDAR_YEAR = 5101;
        /// Days off, by their dates: which holiday each is.
        CALENDAR_OFF = 5102;
        /// Days of weekends that are worked, by their dates.
        CALENDAR_WORKED = 5103;
        /// The decision by which it is so.
        CALENDAR_GROUNDS = 5104;
        /// The unit that a target is for.
        TARGET_UNIT = 6001;
        /// The event that it counts, by name.
        TARGET_EVENT = 6002;
        /// How many there are to be, from which day to which: one value, so that two changes made apart never make a target that
        /// nobody set.
        TARGET_AIM = 6003;
        /// Whether it was withdrawn.
        TARGET_WITHDRAWN = 6004;
        /// The plan or the resolution by which it is so.
        TARGET_GROUNDS = 6005;
    }
}

const fn text(chars_max: usize) -> Type {
    Type::Text { chars_max, shape: Shape::Free }
}

/// A part of a name: the longest on record elsewhere, with room.
const NAME_PART: Type = Type::Text { chars_max: 60, shape: Shape::Name };
/// A day on which something happened.
const PAST: Type = Type::Date(Tense::Past);
/// A day that may be to come.
const ANY: Type = Type::Date(Tense::Any);
/// A house number, a street, a hamlet.
const LINE: Type = text(200);

const fn part(name: &'static str, label: &'static str, ty: Type) -> Part {
    Part { name, label, ty, required: false, since: LEVEL_FIRST }
}

const fn needed(name: &'static str, label: &'static str, ty: Type) -> Part {
    Part { name, label, ty, required: true, since: LEVEL_FIRST }
}

const UNIT: Part = needed("unit", "Đơn vị hành chính", Type::Unit);
const ADDRESS_LINE: Part = part("line", "Địa chỉ", LINE);

static NAME: Struct = Struct {
    form: Form::Slashes,
    parts: &[part("family", "Họ", NAME_PART), part("middle", "Chữ đệm", NAME_PART), needed("given", "Tên", NAME_PART)],
    in_order: None,
};
/// A place at home or abroad.
static PLACE: Struct = Struct {
    form: Form::Named,
    parts: &[part("unit", "Đơn vị hành chính", Type::Unit), part("country", "Quốc gia", Type::Country), ADDRESS_LINE],
    in_order: None,
};
/// By law an interval: start, end, and why it ended (Decree 154/2024, article 11).
static RESIDENCE: Struct = Struct {
    form: Form::Named,
    parts: &[
        UNIT,
        ADDRESS_LINE,
        part("since", "Từ ngày", PAST),
        part("until", "Đến ngày", PAST),
        part("end", "Lý do kết thúc", Type::Code(codes::RESIDENCE_END)),
    ],
    in_order: Some((2, 3)),
};
static TEMPORARY_RESIDENCE: Struct = Struct {
    form: Form::Named,
    parts: &[
        UNIT,
        ADDRESS_LINE,
        needed("from", "Từ ngày", ANY),
        needed("until", "Đến ngày", ANY),
        part("ended", "Ngày kết thúc", PAST),
        part("end", "Lý do kết thúc", Type::Code(codes::RESIDENCE_END)),
    ],
    in_order: Some((2, 3)),
};
/// What host or guest tells: under 30 days.
static STAY: Struct = Struct {
    form: Form::Named,
    parts: &[
        UNIT,
        ADDRESS_LINE,
        needed("from", "Từ ngày", ANY),
        needed("until", "Đến ngày", ANY),
        part("reason", "Lý do", LINE),
    ],
    in_order: Some((2, 3)),
};
static FORMER_NUMBER: Struct = Struct {
    form: Form::Named,
    parts: &[
        needed("number", "Số định danh đã hủy", Type::Number),
        needed("reason", "Lý do hủy", Type::Code(codes::NUMBER_END)),
        part("cancelled", "Ngày hủy", PAST),
    ],
    in_order: None,
};
static DWELLING: Struct = Struct { form: Form::Named, parts: &[UNIT, ADDRESS_LINE], in_order: None };
static ABSENCE: Struct = Struct {
    form: Form::Named,
    parts: &[
        needed("from", "Từ ngày", ANY),
        part("until", "Đến ngày", ANY),
        part("unit", "Nơi đến", Type::Unit),
        // A class, never its details (Law on Residence, article 31).
        part("reason", "Lý do", Type::Code(codes::ABSENCE_REASON)),
    ],
    in_order: Some((0, 1)),
};
static MARITAL_STATUS: Struct = Struct {
    form: Form::Named,
    parts: &[needed("status", "Tình trạng", Type::Code(codes::MARITAL_STATUS)), part("since", "Từ ngày", PAST)],
    in_order: None,
};
static IDENTITY_CARD: Struct = Struct {
    form: Form::Named,
    parts: &[
        needed("number", "Số thẻ", Type::Text { chars_max: 12, shape: Shape::Digits { min: 9, max: 12 } }),
        needed("kind", "Loại thẻ", Type::Code(codes::CARD_KIND)),
        part("state", "Trạng thái", Type::Code(codes::CARD_STATE)),
        part("issued", "Ngày cấp", PAST),
        part("issued_by", "Nơi cấp", LINE),
        part("valid_to", "Có giá trị đến", ANY),
    ],
    in_order: Some((3, 5)),
};
static RELATIVE: Struct = Struct {
    form: Form::Named,
    parts: &[
        // Three parts of a name, with spaces between them.
        part("name", "Họ, chữ đệm và tên", Type::Text { chars_max: 182, shape: Shape::Name }),
        part("number", "Số định danh", Type::Number),
        part("nationality", "Quốc tịch", Type::Country),
        part("record", "Hồ sơ", Type::Record(RecordKind::Person)),
        part("since", "Từ ngày", PAST),
    ],
    in_order: None,
};
static DOCUMENT: Struct = Struct {
    form: Form::Named,
    parts: &[
        needed("kind", "Loại giấy tờ", text(100)),
        part("number", "Số", text(50)),
        part("issued", "Ngày cấp", PAST),
        part("issued_by", "Nơi cấp", LINE),
        part("hash", "Mã băm bản số hóa", Type::Text { chars_max: 64, shape: Shape::Hash }),
        part("bytes", "Kích thước bản số hóa", Type::Text { chars_max: 12, shape: Shape::Digits { min: 1, max: 12 } }),
    ],
    in_order: None,
};

static DOSSIER_STEP: Struct = Struct {
    form: Form::Named,
    parts: &[
        needed("step", "Bước", Type::Code(codes::DOSSIER_STEP)),
        needed("state", "Trạng thái", Type::Code(codes::STEP_STATE)),
        // The day on which the term of its state began.
        needed("since", "Từ ngày", ANY),
        part("ended", "Ngày giải quyết", PAST),
        part("result", "Kết quả", LINE),
        part("lacking", "Giấy tờ còn thiếu", LINE),
    ],
    in_order: None,
};
static AIM: Struct = Struct {
    form: Form::Named,
    parts: &[
        needed("count", "Chỉ tiêu", Type::Text { chars_max: 9, shape: Shape::Digits { min: 1, max: 9 } }),
        needed("from", "Từ ngày", ANY),
        needed("until", "Đến hết ngày", ANY),
    ],
    in_order: Some((1, 2)),
};

const fn person(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field {
        id,
        name,
        label,
        kind: RecordKind::Person,
        ty,
        class: Class::Adjudicated,
        sensitivity: Sensitivity::Personal,
        search: Search::No,
        repeat: Repeat::Once,
        required: Required::Never,
        second: Second::No,
        since: LEVEL_FIRST,
    }
}

const fn household(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Household, ..person(id, name, label, ty) }
}

/// Latest: an operator says what is, and there is no paper by which an officer could decide between two of them.
const fn site(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Site, ..person(id, name, label, ty).latest().plain() }
}

const fn unit(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Unit, ..site(id, name, label, ty) }
}

const fn block(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Block, ..site(id, name, label, ty) }
}

const fn dossier(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Dossier, ..person(id, name, label, ty) }
}

const fn calendar(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Calendar, ..site(id, name, label, ty) }
}

const fn target(id: FieldId, name: &'static str, label: &'static str, ty: Type) -> Field {
    Field { kind: RecordKind::Target, ..site(id, name, label, ty) }
}

impl Field {
    const fn latest(self) -> Self {
        Field { class: Class::Latest, ..self }
    }
    const fn sensitive(self) -> Self {
        Field { sensitivity: Sensitivity::Sensitive, ..self }
    }
    const fn plain(self) -> Self {
        Field { sensitivity: Sensitivity::Plain, ..self }
    }
    const fn search(self, search: Search) -> Self {
        Field { search, ..self }
    }
    const fn repeat(self, repeat: Repeat) -> Self {
        Field { repeat, ..self }
    }
    const fn required(self, required: Required) -> Self {
        Field { required, ..self }
    }
    const fn second(self, second: Second) -> Self {
        Field { second, ..self }
    }
}

/// Every field, in order of its id.
#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    person(field::NAME, "name", "Họ, chữ đệm và tên khai sinh", Type::Struct(&NAME))
        .search(Search::Words).required(Required::Always),
    person(field::OTHER_NAME, "other_name", "Tên gọi khác", Type::Text { chars_max: 180, shape: Shape::Name })
        .search(Search::Words),
    person(field::PERSONAL_NUMBER, "personal_number", "Số định danh cá nhân", Type::Number)
        .search(Search::Exact).required(Required::Always).second(Second::Replaced),
    person(field::BIRTH_DATE, "birth_date", "Ngày, tháng, năm sinh", PAST)
        .search(Search::Exact).required(Required::Always).second(Second::Replaced),
    person(field::SEX, "sex", "Giới tính", Type::Code(codes::SEX))
        .required(Required::Always).second(Second::Replaced),
    person(field::BIRTH_PLACE, "birth_place", "Nơi sinh", Type::Struct(&PLACE)),
    person(field::BIRTH_REGISTRATION_PLACE, "birth_registration_place", "Nơi đăng ký khai sinh", Type::Struct(&PLACE))
        .required(Required::Always),
    person(field::ORIGIN, "origin", "Quê quán", Type::Struct(&PLACE)).required(Required::Always),
    person(field::ETHNICITY, "ethnicity", "Dân tộc", Type::Code(codes::ETHNICITY))
        .sensitive().required(Required::Always),
    person(field::RELIGION, "religion", "Tôn giáo", Type::Code(codes::RELIGION)).sensitive(),
    person(field::NATIONALITY, "nationality", "Quốc tịch", Type::Country).required(Required::Always),
    person(field::BLOOD_GROUP, "blood_group", "Nhóm máu", Type::Code(codes::BLOOD_GROUP)).sensitive(),
    person(field::OLD_IDENTITY_NUMBER, "old_identity_number", "Số chứng minh nhân dân 09 số",
           Type::Text { chars_max: 9, shape: Shape::Digits { min: 9, max: 9 } }).search(Search::Exact),
    person(field::IDENTITY_CARD, "identity_card", "Thẻ căn cước", Type::Struct(&IDENTITY_CARD)).repeat(Repeat::Keyed),
    person(field::RELATIVE, "relative", "Cha, mẹ, vợ, chồng, con, người đại diện", Type::Struct(&RELATIVE))
        .repeat(Repeat::Relation),
    person(field::PERMANENT_RESIDENCE, "permanent_residence", "Nơi thường trú", Type::Struct(&RESIDENCE))
        .required(Required::Living),
    person(field::TEMPORARY_RESIDENCE, "temporary_residence", "Nơi tạm trú", Type::Struct(&TEMPORARY_RESIDENCE)),
    person(field::CURRENT_DWELLING, "current_dwelling", "Nơi ở hiện tại", Type::Struct(&DWELLING)),
    person(field::TEMPORARY_ABSENCE, "temporary_absence", "Khai báo tạm vắng", Type::Struct(&ABSENCE)),
    person(field::RESIDENCE_FILE_NUMBER, "residence_file_number", "Số hồ sơ cư trú", text(30)),
    person(field::MARITAL_STATUS, "marital_status", "Tình trạng hôn nhân", Type::Struct(&MARITAL_STATUS))
        .required(Required::LivingFromAge(18)),
    person(field::RELATION_TO_HEAD, "relation_to_head", "Quan hệ với chủ hộ", Type::Code(codes::RELATION_TO_HEAD))
        .required(Required::Living),
    person(field::HOUSEHOLD, "household", "Hộ", Type::Record(RecordKind::Household))
        .search(Search::Exact).required(Required::Living),
    person(field::DEATH_DATE, "death_date", "Ngày chết", PAST).second(Second::Always),
    person(field::DISAPPEARANCE_DATE, "disappearance_date", "Ngày mất tích", PAST),
    person(field::MOBILE_NUMBER, "mobile_number", "Số thuê bao di động", Type::Text { chars_max: 16, shape: Shape::Phone })
        .latest(),
    person(field::EMAIL, "email", "Địa chỉ thư điện tử", Type::Text { chars_max: 254, shape: Shape::Email }).latest(),
    person(field::DOCUMENT, "document", "Giấy tờ", Type::Struct(&DOCUMENT)).repeat(Repeat::Keyed),
    person(field::E_IDENTIFICATION, "e_identification", "Tài khoản định danh điện tử", Type::Code(codes::E_IDENTIFICATION)),
    person(field::NOTE, "note", "Ghi chú", text(1000)).latest(),
    person(field::STAY, "stay", "Lưu trú", Type::Struct(&STAY)).repeat(Repeat::Keyed),
    person(field::FORMER_NUMBER, "former_number", "Số định danh đã hủy", Type::Struct(&FORMER_NUMBER))
        .search(Search::Exact).repeat(Repeat::Keyed),
    person(field::STANDING, "standing", "Hiệu lực của nội dung ghi", Type::Code(codes::STANDING))
        .plain().repeat(Repeat::Keyed),

    household(field::HEAD, "head", "Chủ hộ", Type::Record(RecordKind::Person))
        .search(Search::Exact).required(Required::Always),
    household(field::HOUSEHOLD_RESIDENCE, "residence", "Nơi cư trú", Type::Struct(&RESIDENCE)).required(Required::Always),
    household(field::HOUSEHOLD_FILE_NUMBER, "file_number", "Số hồ sơ cư trú", text(30)),
    household(field::COLLECTIVE, "collective", "Hộ tập thể", Type::Flag).plain(),
    household(field::HOUSEHOLD_NOTE, "note", "Ghi chú", text(1000)).latest(),
    household(field::HOUSEHOLD_DISSOLVED, "dissolved", "Ngày giải thể", PAST),
    household(field::HOUSEHOLD_STANDING, "standing", "Hiệu lực của nội dung ghi", Type::Code(codes::STANDING))
        .plain().repeat(Repeat::Keyed),

    site(field::SITE, "site", "Điểm dữ liệu", Type::Text { chars_max: 18, shape: Shape::Site }).required(Required::Always),
    site(field::SITE_UNIT, "unit", "Đơn vị hành chính", Type::Unit).required(Required::Always),
    site(field::SITE_PARENT, "parent", "Điểm dữ liệu cấp trên", Type::Text { chars_max: 18, shape: Shape::Site }),
    site(field::SITE_KEY, "key", "Khóa kiểm chữ ký", Type::Text { chars_max: 64, shape: Shape::Key })
        .repeat(Repeat::Keyed),
    site(field::SITE_ADDRESS, "address", "Địa chỉ mạng", Type::Text { chars_max: 260, shape: Shape::Address })
        .repeat(Repeat::Keyed),
    site(field::SITE_SHARD, "shard", "Phần dữ liệu", Type::Text { chars_max: 18, shape: Shape::Shard }),
    site(field::SITE_STATE, "state", "Tình trạng", Type::Code(codes::SITE_STATE)).required(Required::Always),
    site(field::SITE_NOTE, "note", "Ghi chú", text(1000)),

    unit(field::UNIT, "unit", "Mã định danh đơn vị", Type::Text { chars_max: 18, shape: Shape::Unit })
        .required(Required::Always),
    unit(field::UNIT_CODE, "code", "Mã đơn vị hành chính", Type::Text { chars_max: 5, shape: Shape::Digits { min: 2, max: 5 } })
        .required(Required::Always),
    unit(field::UNIT_NAME, "name", "Tên đơn vị hành chính", text(100)).required(Required::Always),
    unit(field::UNIT_PARENT, "parent", "Đơn vị hành chính cấp trên", Type::Unit).required(Required::Always),
    unit(field::UNIT_FROM, "from", "Từ ngày", ANY).required(Required::Always),
    unit(field::UNIT_TO, "to", "Đến hết ngày", ANY),
    unit(field::UNIT_GROUNDS, "grounds", "Căn cứ", text(300)),

    block(field::BLOCK_FIRST, "first", "Số đầu", Type::Number).required(Required::Always),
    block(field::BLOCK_COUNT, "count", "Số lượng", Type::Text { chars_max: 7, shape: Shape::Digits { min: 1, max: 7 } })
        .required(Required::Always),
    block(field::BLOCK_SITE, "site", "Điểm dữ liệu được cấp", Type::Text { chars_max: 18, shape: Shape::Site })
        .required(Required::Always),
    block(field::BLOCK_SHARD, "shard", "Phần dữ liệu sử dụng", Type::Text { chars_max: 18, shape: Shape::Shard })
        .required(Required::Always),
    block(field::BLOCK_LIFE, "life", "Phiên bản dữ liệu được dùng", Type::Text { chars_max: 34, shape: Shape::Incarnation })
        .required(Required::Always),

    dossier(field::DOSSIER_SERVICE, "service", "Thủ tục liên thông", Type::Code(codes::SERVICE)).required(Required::Always),
    dossier(field::DOSSIER_PERSON, "about", "Người được giải quyết", Type::Record(RecordKind::Person)).search(Search::Exact),
    dossier(field::DOSSIER_APPLICANT, "applicant", "Người yêu cầu", Type::Text { chars_max: 182, shape: Shape::Name })
        .required(Required::Always),
    dossier(field::DOSSIER_PHONE, "phone", "Số điện thoại", Type::Text { chars_max: 16, shape: Shape::Phone }).latest(),
    dossier(field::DOSSIER_DECLARED, "declared", "Ngày tiếp nhận", PAST).required(Required::Always),
    dossier(field::DOSSIER_STEP, "step", "Các bước", Type::Struct(&DOSSIER_STEP)).repeat(Repeat::Keyed),
    dossier(field::DOSSIER_CLOSED, "closed", "Ngày đóng hồ sơ", PAST),
    dossier(field::DOSSIER_NOTE, "note", "Ghi chú", text(1000)).latest(),
    dossier(field::DOSSIER_STANDING, "standing", "Hiệu lực của nội dung ghi", Type::Code(codes::STANDING))
        .plain().repeat(Repeat::Keyed),

    calendar(field::CALENDAR_YEAR, "year", "Năm", Type::Text { chars_max: 4, shape: Shape::Digits { min: 4, max: 4 } })
        .required(Required::Always),
    calendar(field::CALENDAR_OFF, "off", "Ngày nghỉ", Type::Code(codes::HOLIDAY)).repeat(Repeat::Keyed),
    calendar(field::CALENDAR_WORKED, "worked", "Ngày làm bù", Type::Flag).repeat(Repeat::Keyed),
    calendar(field::CALENDAR_GROUNDS, "grounds", "Căn cứ", text(300)),

    target(field::TARGET_UNIT, "unit", "Đơn vị thực hiện", Type::Unit).required(Required::Always),
    target(field::TARGET_EVENT, "event", "Sự kiện", text(40)).required(Required::Always),
    target(field::TARGET_AIM, "aim", "Chỉ tiêu và thời hạn", Type::Struct(&AIM)).required(Required::Always),
    target(field::TARGET_WITHDRAWN, "withdrawn", "Đã hủy", Type::Flag),
    target(field::TARGET_GROUNDS, "grounds", "Căn cứ", text(300)),
];
