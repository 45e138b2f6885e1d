//! The lists that a coded value chooses from. A code's number is what is stored and is never re-used; its name stands in
//! files and on the wire; its label is what an officer reads and may type.
//!
//! What is typed is compared without accents, hyphens, apostrophes, spaces and capitals, with names, labels and aliases: the
//! other names of public lists and the spellings that papers have. A name that means several (the Tày and the Thổ were both
//! called "Thổ") is the alias of none. Where accents alone tell two apart, the exact spelling counts first.

use crate::level::LEVEL_FIRST;
use crate::text::fold;

/// One choice of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// What is stored; from 1.
    pub number: u8,
    /// English, snake case.
    pub name: &'static str,
    /// Vietnamese.
    pub label: &'static str,
    /// What else people write for it.
    pub aliases: &'static [&'static str],
    /// The first feature level that has it; below, no value may be it.
    pub since: u16,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $list:ident = [$($number:literal $name:literal $label:literal $(= $($alias:literal)|+)?),* $(,)?];)*) => {
        $($(#[$doc])* pub const $list: &[Code] = &[$(Code {
            number: $number, name: $name, label: $label, aliases: &[$($($alias),+)?], since: LEVEL_FIRST,
        }),*];)*
        /// Every list, for checks over all of them.
        pub const LISTS: &[&[Code]] = &[$($list),*];
    };
}

codes! {
    /// Sex.
    SEX = [1 "male" "Nam" = "Nam giới" | "m", 2 "female" "Nữ" = "Nữ giới" | "f"];
    /// Blood group, with the Rhesus factor where it is known.
    BLOOD_GROUP = [
        1 "a" "A", 2 "b" "B", 3 "ab" "AB", 4 "o" "O",
        5 "a+" "A Rh+", 6 "b+" "B Rh+", 7 "ab+" "AB Rh+", 8 "o+" "O Rh+",
        9 "a-" "A Rh-", 10 "b-" "B Rh-", 11 "ab-" "AB Rh-", 12 "o-" "O Rh-",
    ];
    /// Marital status.
    MARITAL_STATUS = [
        1 "single" "Chưa kết hôn" = "Độc thân" | "Chưa vợ chồng",
        2 "married" "Đã kết hôn" = "Có vợ" | "Có chồng" | "Có vợ chồng" | "Đang có vợ" | "Đang có chồng" | "Kết hôn",
        3 "divorced" "Đã ly hôn" = "Ly hôn" | "Li hôn" | "Đã li hôn",
        4 "widowed" "Góa" = "Góa vợ" | "Góa chồng" | "Goá bụa" | "Vợ chết" | "Chồng chết",
    ];
    /// Relation to the head of the household.
    RELATION_TO_HEAD = [
        1 "head" "Chủ hộ", 2 "wife" "Vợ", 3 "husband" "Chồng",
        4 "child" "Con" = "Con trai" | "Con gái" | "Con đẻ" | "Con ruột" | "Con nuôi",
        5 "parent" "Cha mẹ" = "Cha" | "Bố" | "Mẹ" | "Bố mẹ" | "Cha đẻ" | "Bố đẻ" | "Mẹ đẻ" | "Cha ruột" | "Mẹ ruột"
            | "Cha nuôi" | "Bố nuôi" | "Mẹ nuôi" | "Cha, mẹ đẻ",
        6 "sibling" "Anh chị em" = "Anh" | "Chị" | "Em" | "Anh trai" | "Chị gái" | "Em trai" | "Em gái" | "Anh ruột"
            | "Chị ruột" | "Em ruột" | "Anh chị em ruột" | "Anh, chị, em" | "Anh, chị, em ruột",
        7 "grandchild" "Cháu nội ngoại" = "Cháu nội" | "Cháu ngoại" | "Cháu nội, ngoại",
        8 "grandparent" "Ông bà" = "Ông" | "Bà" | "Ông nội" | "Bà nội" | "Ông ngoại" | "Bà ngoại" | "Ông bà nội"
            | "Ông bà ngoại" | "Ông, bà",
        9 "child_in_law" "Con dâu rể" = "Con dâu" | "Con rể" | "Con dâu, rể" | "Con dâu, con rể",
        10 "other_relative" "Họ hàng khác" = "Họ hàng" | "Bà con" | "Người thân khác",
        11 "no_relation" "Ở nhờ, ở thuê" = "Ở nhờ" | "Ở thuê" | "Ở mượn" | "Cùng ở nhờ" | "Cùng ở thuê" | "Cùng ở mượn"
            | "Người ở nhờ" | "Người ở thuê" | "Không quan hệ" | "Không có quan hệ",
    ];
    /// The kinds of identity card.
    CARD_KIND = [
        1 "cmnd" "Chứng minh nhân dân" = "Giấy chứng minh nhân dân" | "CMT" | "Chứng minh thư",
        2 "cccd" "Căn cước công dân" = "Thẻ căn cước công dân", 3 "can_cuoc" "Căn cước" = "Thẻ căn cước",
        4 "certificate" "Giấy chứng nhận căn cước" = "GCNCC",
    ];
    /// The states of an identity card.
    CARD_STATE = [
        1 "requested" "Đã đề nghị", 2 "captured" "Đã thu nhận", 3 "approved" "Đã duyệt", 4 "produced" "Đã sản xuất",
        5 "delivered" "Đã trả", 6 "expired" "Hết hạn", 7 "lost" "Đã mất", 8 "revoked" "Đã thu hồi", 9 "held" "Đang giữ",
        10 "damaged" "Bị hỏng", 11 "void" "Hết giá trị sử dụng", 12 "rejected" "Từ chối cấp",
    ];
    /// What was said of an edit.
    STANDING = [
        1 "confirmed" "Đã xác nhận", 2 "rejected" "Bác bỏ", 3 "held" "Tạm đình chỉ", 4 "released" "Bỏ tạm đình chỉ",
    ];
    /// Why somebody is away for a while.
    ABSENCE_REASON = [
        1 "work" "Làm việc" = "Đi làm" | "Đi làm ăn xa", 2 "study" "Học tập" = "Đi học", 3 "treatment" "Chữa bệnh",
        4 "military" "Nghĩa vụ quân sự", 5 "family" "Việc gia đình" = "Thăm người thân", 6 "legal_measure" "Biện pháp theo luật định",
        7 "other" "Lý do khác",
    ];
    /// Why a residence ended (Law on Residence 68/2020/QH14, articles 24 and 29).
    RESIDENCE_END = [
        1 "death" "Chết", 2 "moved" "Chuyển đi nơi khác" = "Đã đăng ký thường trú nơi khác" | "Chuyển đi",
        3 "absent" "Vắng mặt liên tục từ 12 tháng", 4 "nationality_lost" "Thôi, bị tước quốc tịch",
        5 "abroad" "Ra nước ngoài định cư", 6 "no_place" "Không còn chỗ ở hợp pháp", 7 "wrongly_registered" "Đăng ký sai",
        8 "expired" "Hết thời hạn tạm trú", 9 "declared_missing" "Bị tuyên bố mất tích", 10 "left" "Không còn cư trú",
    ];
    /// Why a personal number was cancelled (Decree 70/2024, article 11).
    NUMBER_END = [
        1 "sex_redetermined" "Xác định lại giới tính", 2 "birth_year_corrected" "Cải chính năm sinh",
        3 "wrongly_collected" "Sai sót khi thu thập" = "Sai nơi, năm hoặc giới tính khi thu thập",
        4 "forged_papers" "Giấy tờ giả", 5 "birth_certificate_revoked" "Giấy khai sinh bị thu hồi, hủy bỏ",
        6 "doubled" "Trùng số",
    ];
    /// The states of an e-identification account.
    E_IDENTIFICATION = [
        1 "none" "Chưa có", 2 "level_1" "Mức 1" = "Mức độ 1", 3 "level_2" "Mức 2" = "Mức độ 2",
        4 "level_1_activated" "Mức 1, đã kích hoạt", 5 "level_2_activated" "Mức 2, đã kích hoạt",
        6 "locked" "Đã khóa", 7 "closed" "Đã đóng", 8 "level_1_locked" "Mức 1, đã khóa", 9 "level_2_locked" "Mức 2, đã khóa",
    ];
    /// Services that several authorities do one after the other.
    SERVICE = [
        1 "birth" "Khai sinh, đăng ký thường trú, cấp thẻ bảo hiểm y tế" = "Khai sinh",
        2 "death" "Khai tử, xóa đăng ký thường trú, trợ cấp mai táng" = "Khai tử",
    ];
    /// The steps of these services.
    DOSSIER_STEP = [
        1 "birth_registration" "Đăng ký khai sinh", 2 "permanent_residence" "Đăng ký thường trú",
        3 "health_insurance" "Cấp thẻ bảo hiểm y tế", 4 "death_registration" "Đăng ký khai tử",
        5 "residence_end" "Xóa đăng ký thường trú", 6 "funeral_allowance" "Trợ cấp mai táng",
    ];
    /// The states of a step.
    STEP_STATE = [
        1 "open" "Đang giải quyết", 2 "papers_missing" "Chờ bổ sung giấy tờ", 3 "done" "Đã giải quyết", 4 "rejected" "Từ chối",
    ];
    /// Public holidays (Labour Code 45/2019/QH14, articles 111 and 112).
    HOLIDAY = [
        1 "new_year" "Tết Dương lịch", 2 "tet" "Tết Nguyên đán" = "Tết Âm lịch", 3 "hung_kings" "Giỗ Tổ Hùng Vương",
        4 "victory" "Ngày Chiến thắng", 5 "labour" "Ngày Quốc tế lao động", 6 "national_day" "Quốc khánh",
        7 "compensation" "Nghỉ bù", 8 "other" "Nghỉ khác",
    ];
    /// Whether a site serves its unit.
    SITE_STATE = [1 "active" "Đang hoạt động" = "Hoạt động", 2 "retired" "Đã giải thể" = "Ngừng hoạt động"];
    /// The 54 peoples by their official numbers (Decision 121-TCTK/PPCĐ of 1979), and foreigners.
    ETHNICITY = [
        1 "kinh" "Kinh" = "Việt", 2 "tay" "Tày" = "Thù Lao" | "Pa Dí", 3 "thai" "Thái" = "Thái Trắng" | "Thái Đen",
        4 "hoa" "Hoa" = "Hán" | "Xạ Phạng", 5 "khmer" "Khơ-me" = "Khơ Me Krôm" | "Khmer Krom" | "Khmer Nam Bộ",
        6 "muong" "Mường", 7 "nung" "Nùng", 8 "hmong" "Mông" = "H'Mông" | "Mèo" | "Ná Mẻo" | "Mông Trắng" | "Mông Hoa"
            | "Mông Đen" | "Mông Xanh" | "Mông Đỏ",
        9 "dao" "Dao" = "Dao Đỏ" | "Dao Tiền" | "Dao Thanh Y" | "Dao Quần Chẹt" | "Dao Quần Trắng" | "Dao Lô Gang",
        10 "gia_rai" "Gia-rai" = "Gia Rai" | "Giơ-rai" | "Jrai" | "Jarai" | "J'rai" | "Chơ-rai",
        11 "ngai" "Ngái" = "Khách Gia", 12 "e_de" "Ê-đê" = "Ra-đê" | "Rhade" | "Rađê" | "Đê Ga" | "Bih" | "Mđhur",
        13 "ba_na" "Ba-na" = "Bahnar" | "Bơ-nâm" | "Rơ-ngao",
        14 "xo_dang" "Xơ-đăng" = "Xê Đăng" | "Sedang" | "Xơ-teng" | "Hà Lăng" | "Ca-dong" | "Ka Dong" | "Tơ-đrá",
        15 "san_chay" "Sán Chay" = "Sán Chỉ" | "Sán Chí" | "Cao Lan" | "Cao Lan - Sán Chỉ" | "Sán Chay (Cao Lan - Sán Chỉ)",
        16 "co_ho" "Cơ-ho" = "K'Ho" | "Kơ Ho" | "Kờ Ho" | "Cơ Ho" | "Xrê" | "Srê",
        17 "cham" "Chăm" = "Chàm" | "Chiêm Thành" | "Hroi" | "Chăm Hroi", 18 "san_diu" "Sán Dìu" = "Sán Dẻo",
        19 "hre" "Hrê" = "Chăm Rê" | "H're", 20 "mnong" "Mnông" = "M'Nông" | "Pnông" | "Bu Nông",
        21 "ra_glai" "Ra-glai" = "Raglay" | "Ra-clây" | "Rắc Lây" | "Roglai",
        22 "xtieng" "Xtiêng" = "S'tiêng" | "Stiêng" | "X'tiêng" | "Xa-điêng",
        23 "bru_van_kieu" "Bru-Vân Kiều" = "Bru" | "Vân Kiều" | "Măng Coong" | "Tri Khùa" | "Ma Coong",
        24 "tho" "Thổ" = "Đan Lai", 25 "giay" "Giáy" = "Nhắng" | "Dẩng",
        26 "co_tu" "Cơ-tu" = "Ca-tu" | "Katu" | "Kơ Tu" | "K'Tu",
        27 "gie_trieng" "Gié-Triêng" = "Giẻ Triêng" | "Dẻ Triêng" | "Gié" | "Triêng" | "Ta-riêng" | "Jeh Triêng",
        28 "ma" "Mạ" = "Châu Mạ", 29 "kho_mu" "Khơ-mú" = "Khmu" | "Kh'mú" | "Kơ Mụ", 30 "co" "Co" = "Cor" | "Kor" | "Col" | "Kol",
        31 "ta_oi" "Tà-ôi" = "Tôi-ôi" | "Pa Cô" | "Pa Kô" | "Pa-hi" | "Ba-hi",
        32 "cho_ro" "Chơ-ro" = "Châu Ro" | "Dơ-ro" | "Ch'ro" | "Chrau", 33 "khang" "Kháng" = "Quảng Lâm",
        34 "xinh_mun" "Xinh-mun" = "Sinh Mun" | "Puộc" | "Pụa", 35 "ha_nhi" "Hà Nhì" = "U Ní" | "Xá U Ní",
        36 "chu_ru" "Chu-ru" = "Chơ-ru", 37 "lao" "Lào" = "Lào Bốc" | "Lào Nọi", 38 "la_chi" "La Chí" = "Cù Tê" | "La Quả",
        39 "la_ha" "La Ha" = "Khlá Phlạo", 40 "phu_la" "Phù Lá" = "Xá Phó" | "Bồ Khô Pạ",
        41 "la_hu" "La Hủ" = "Khù Sung" | "Khù Xung" | "Cò Xung", 42 "lu" "Lự" = "Lừ" | "Nhuồn", 43 "lo_lo" "Lô Lô" = "Mun Di",
        44 "chut" "Chứt" = "Rục" | "Mã Liềng" | "A-rem", 45 "mang" "Mảng" = "Mảng Ư", 46 "pa_then" "Pà Thẻn" = "Pà Hưng",
        47 "co_lao" "Cơ Lao" = "Cờ Lao", 48 "cong" "Cống" = "Xắm Khống", 49 "bo_y" "Bố Y" = "Tu Dí" | "Chủng Chá",
        50 "si_la" "Si La" = "Cù Dề Xừ", 51 "pu_peo" "Pu Péo" = "Ka Pèo" | "Pu Péo (La Quả)", 52 "brau" "Brâu" = "Brao",
        53 "o_du" "Ơ Đu" = "Tày Hạt", 54 "ro_mam" "Rơ-măm" = "Rơ Mâm", 55 "foreign" "Người nước ngoài" = "Nước ngoài",
    ];
    /// Religions that the state recognises.
    RELIGION = [
        1 "none" "Không" = "Không có" | "Không tôn giáo" | "Không theo tôn giáo" | "Không theo đạo" | "Lương",
        2 "buddhism" "Phật giáo" = "Đạo Phật" | "Phật",
        3 "catholicism" "Công giáo" = "Thiên Chúa giáo" | "Thiên Chúa" | "Đạo Thiên Chúa" | "Đạo Công giáo",
        4 "protestantism" "Tin Lành" = "Đạo Tin Lành", 5 "cao_dai" "Cao Đài" = "Đạo Cao Đài",
        6 "hoa_hao" "Phật giáo Hòa Hảo" = "Hòa Hảo" | "Đạo Hòa Hảo" | "PGHH",
        7 "islam" "Hồi giáo" = "Đạo Hồi" | "Hồi" | "Ixlam", 8 "bahai" "Baha'i" = "Tôn giáo Baha'i" | "Đạo Baha'i",
        9 "tinh_do" "Tịnh độ cư sĩ Phật hội" = "Tịnh độ cư sĩ Phật hội Việt Nam" | "Tịnh độ cư sĩ",
        10 "adventism" "Cơ đốc Phục lâm" = "Giáo hội Cơ đốc Phục lâm" | "Giáo hội Cơ đốc Phục lâm Việt Nam",
        11 "tu_an" "Phật giáo Tứ Ân Hiếu Nghĩa" = "Tứ Ân Hiếu Nghĩa" | "Đạo Tứ Ân Hiếu Nghĩa",
        12 "minh_su" "Minh Sư đạo" = "Minh Sư" | "Giáo hội Phật đường Nam Tông Minh Sư đạo",
        13 "minh_ly" "Minh Lý đạo" = "Minh Lý" | "Minh Lý đạo - Tam Tông Miếu",
        14 "brahmanism" "Bà-la-môn" = "Bà La Môn giáo" | "Chăm Bà La Môn" | "Đạo Bà La Môn" | "Chăm Bàlamôn",
        15 "mormonism" "Mặc Môn" = "Giáo hội các Thánh hữu Ngày sau của Chúa Giê su Ky tô" | "Mormon",
        16 "ta_lon" "Phật giáo Hiếu Nghĩa Tà Lơn" = "Hiếu Nghĩa Tà Lơn", 17 "buu_son" "Bửu Sơn Kỳ Hương" = "Đạo Bửu Sơn Kỳ Hương",
        18 "other" "Khác" = "Tôn giáo khác",
    ];
}

/// The countries of ISO 3166-1, and `XX` for a person without one.
pub const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ \
    FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE \
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR \
    MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU \
    RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG \
    UM US UY UZ VA VC VE VG VI VN VU WF WS XX YE YT ZA ZM ZW";

/// Whether `country` is one of [`COUNTRIES`].
#[must_use]
pub fn is_country(country: &[u8]) -> bool {
    // Two letters and a space each, in order.
    let at = |place: usize| &COUNTRIES.as_bytes()[3 * place..3 * place + 2];
    let (mut low, mut high) = (0, COUNTRIES.len().div_ceil(3));
    while low < high {
        let middle = usize::midpoint(low, high);
        match at(middle).cmp(country) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

/// What else is typed for each country: its code, its three letters, then its names, Vietnamese first. See `data/NOTICE`.
const COUNTRY_NAMES: &str = include_str!("../../data/countries.csv");

/// The two letters of a country by its code, its three letters (in capitals) or its name. `NGA`, which are Nigeria's
/// letters and Russia's name, is nobody's.
pub(super) fn country(typed: &str) -> Option<[u8; 2]> {
    if is_country(typed.as_bytes()) {
        return typed.as_bytes().try_into().ok();
    }
    let lines = || COUNTRY_NAMES.lines().filter_map(|line| line.split_once(';'));
    let lines = || lines().filter_map(|(code, rest)| rest.split_once(';').map(|(three, names)| (code, three, names)));
    let by_letters = lines().find(|(_, three, _)| *three == typed);
    let lower = typed.to_lowercase();
    let exact = lines().find(|(_, _, names)| names.split(';').any(|name| name.to_lowercase() == lower));
    let (wanted, upper) = (comparable(typed), typed.to_ascii_uppercase());
    let is_alike = |(code, _, names): &(&str, &str, &str)| {
        *code == upper || names.split(';').any(|name| comparable(name) == wanted)
    };
    let by_name = exact.or_else(|| only(lines().filter(is_alike)));
    let mut found = by_letters.into_iter().chain(by_name).map(|(code, ..)| code);
    let code = found.next()?;
    if found.all(|other| other == code) { code.as_bytes().try_into().ok() } else { None }
}

/// What is compared of a typed text: folded letters and digits, and the signs that tell blood groups apart.
fn comparable(text: &str) -> String {
    let folded = fold(text);
    let is_sign = |at: usize| !folded[at..].contains(|c: char| c.is_ascii_alphanumeric());
    let kept = folded.char_indices().filter(|(at, c)| match c {
        '+' => true,
        '-' => is_sign(*at),
        c => !c.is_ascii() || c.is_ascii_alphanumeric(),
    });
    kept.map(|(_, c)| c).collect()
}

/// The only one, if there is one and no more.
fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    found.next().filter(|_| found.next().is_none())
}

/// The code with that name, or with that label or alias however it is spelt.
pub(super) fn find(choices: &'static [Code], typed: &str) -> Option<&'static Code> {
    let lower = typed.to_lowercase();
    let exact =
        |code: &&Code| [code.name, code.label].iter().chain(code.aliases).any(|text| text.to_lowercase() == lower);
    let wanted = comparable(typed);
    let alike =
        |code: &&Code| [code.name, code.label].iter().chain(code.aliases).any(|text| comparable(text) == wanted);
    choices.iter().find(exact).or_else(|| only(choices.iter().filter(alike)))
}

/// Their names, for a message.
pub(super) fn names(choices: &[Code]) -> String {
    choices.iter().map(|code| code.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spellings of the 54 peoples in public lists: the decision of 1979, the census, the ministry's forms, newspapers.
    const PEOPLES: &str = "
        1 Kinh,Việt; 2 Tày; 3 Thái; 4 Hoa,Hán; 5 Khơ-me,Khơ Me,Khmer,Khơme,KHƠ ME,Khơ-Me; 6 Mường; 7 Nùng;
        8 Mông,H'Mông,H’Mông,Hmông,HMông,HʼMông,H-Mông,H'mong,Mèo; 9 Dao; 10 Gia-rai,Gia Rai,Giarai,Jrai,J'rai,Jarai,Gia - rai;
        11 Ngái; 12 Ê-đê,Ê Đê,Êđê,E de,Ê đê,ÊĐÊ,Ra-đê,Rhade; 13 Ba-na,Ba Na,Bana,BaNa,Bahnar,Ba - na; 14 Xơ-đăng,Xơ Đăng,Xơđăng,Xê Đăng,Sedang;
        15 Sán Chay,Sán Chay (Cao Lan - Sán Chỉ),Cao Lan,Sán Chỉ,Sán Chí; 16 Cơ-ho,Cơ Ho,Cơho,K'Ho,Kơ Ho,K’Ho,Koho; 17 Chăm,Chàm,Cham;
        18 Sán Dìu; 19 Hrê,H'rê,Hre; 20 Mnông,M'Nông,M’Nông,M Nông,Mnong; 21 Ra-glai,Ra Glai,Raglai,Raglay; 22 Xtiêng,X'tiêng,S'tiêng,Stiêng,Xtieng;
        23 Bru-Vân Kiều,Bru Vân Kiều,Bru - Vân Kiều,Vân Kiều,Bru; 24 Thổ; 25 Giáy; 26 Cơ-tu,Cơ Tu,Cơtu,Katu,Ka Tu,Ca-tu; 27 Gié-Triêng,Gié Triêng,Giẻ Triêng,Giẻ-Triêng,Gié - Triêng;
        28 Mạ,Châu Mạ; 29 Khơ-mú,Khơ Mú,Khơmú,Kh'mú; 30 Co,Cor,Kor; 31 Tà-ôi,Tà Ôi,Ta Ôi,Tàôi,Pa Cô; 32 Chơ-ro,Chơ Ro,Châu Ro,Chơro; 33 Kháng;
        34 Xinh-mun,Xinh Mun,Xinhmun,Sinh Mun; 35 Hà Nhì; 36 Chu-ru,Chu Ru,Churu; 37 Lào; 38 La Chí; 39 La Ha; 40 Phù Lá; 41 La Hủ; 42 Lự,Lừ; 43 Lô Lô,Lôlô;
        44 Chứt; 45 Mảng; 46 Pà Thẻn; 47 Cơ Lao,Cờ Lao,Cơ-lao; 48 Cống; 49 Bố Y; 50 Si La; 51 Pu Péo; 52 Brâu; 53 Ơ Đu,Ơ-đu,Ơđu; 54 Rơ-măm,Rơ Măm,Rơmăm;
        55 Người nước ngoài,Nước ngoài";

    #[test]
    fn peoples_are_found_by_every_spelling_of_public_lists() {
        let mut count = 0;
        for people in PEOPLES.split(';') {
            let (number, spellings) = people.trim().split_once(' ').expect(people);
            for spelling in spellings.split(',') {
                let found = find(ETHNICITY, spelling).map(|code| code.number.to_string());
                assert_eq!(found.as_deref(), Some(number), "{spelling}");
                count += 1;
            }
        }
        assert!(count > 140, "{count}");
        for nobody in ["", "Xá Lá Vàng", "M", "Kinh Tày", "H"] {
            assert_eq!(find(ETHNICITY, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn codes_are_found_by_their_other_names() {
        for (list, typed, name) in [
            (RELIGION, "Đạo Thiên Chúa", "catholicism"),
            (RELIGION, "hoà hảo", "hoa_hao"),
            (RELIGION, "Baha’i", "bahai"),
            (RELIGION, "Bà La Môn", "brahmanism"),
            (RELATION_TO_HEAD, "Con trai", "child"),
            (RELATION_TO_HEAD, "mẹ", "parent"),
            (RELATION_TO_HEAD, "Ở thuê", "no_relation"),
            (RELATION_TO_HEAD, "anh/chị/em", "sibling"),
            (MARITAL_STATUS, "Goá", "widowed"),
            (MARITAL_STATUS, "có vợ", "married"),
            (CARD_KIND, "Căn Cước Công Dân", "cccd"),
            (E_IDENTIFICATION, "Mức độ 2", "level_2"),
            (BLOOD_GROUP, "AB Rh−", "ab-"),
            (BLOOD_GROUP, "o rh +", "o+"),
            (BLOOD_GROUP, "A", "a"),
            (SEX, "NỮ", "female"),
        ] {
            assert_eq!(find(list, typed).map(|code| code.name), Some(name), "{typed}");
        }
    }

    #[test]
    fn countries_are_found_by_their_names() {
        for (typed, code) in [
            ("VN", "VN"),
            ("vn", "VN"),
            ("VNM", "VN"),
            ("Việt Nam", "VN"),
            ("VIETNAM", "VN"),
            ("Lào", "LA"),
            ("Cam-pu-chia", "KH"),
            ("Cămpuchia", "KH"),
            ("Hoa Kì", "US"),
            ("Mỹ", "US"),
            ("Nga", "RU"),
            ("nga", "RU"),
            ("Bỉ", "BE"),
            ("BI", "BI"),
            ("Áo", "AT"),
            ("Côte d'Ivoire", "CI"),
            ("Timor Leste", "TL"),
            ("không quốc tịch", "XX"),
        ] {
            let found = country(typed).map(|letters| String::from_utf8_lossy(&letters).into_owned());
            assert_eq!(found.as_deref(), Some(code), "{typed}");
        }
        // Burundi's letters and Belgium's name without its accent; Malaysia's and America's; and none.
        for nobody in ["bi", "my", "ao", "NGA", "", "ZZ", "Congo", "Nước Nam"] {
            assert_eq!(country(nobody), None, "{nobody}");
        }
        let listed: Vec<&str> = COUNTRY_NAMES.lines().map(|line| &line[..2]).collect();
        assert_eq!(listed, COUNTRIES.split(' ').collect::<Vec<_>>());
        for line in COUNTRY_NAMES.lines() {
            for name in line.split(';').filter(|name| *name != "NGA") {
                let found = country(name).map(|letters| String::from_utf8_lossy(&letters).into_owned());
                assert_eq!(found.as_deref(), Some(&line[..2]), "{name}");
            }
        }
    }

    #[test]
    fn no_two_codes_of_a_list_are_taken_for_each_other() {
        for list in LISTS {
            for (index, code) in list.iter().enumerate() {
                assert!(code.number > 0);
                assert_eq!(find(list, code.name), Some(code));
                assert_eq!(find(list, code.label), Some(code));
                for text in [code.label].iter().chain(code.aliases) {
                    assert_eq!(find(list, text), Some(code), "{text}");
                    assert_eq!(find(list, &fold(text).to_uppercase()), Some(code), "{text}");
                }
                assert!(list[..index].iter().all(|other| other.number < code.number), "{}", code.name);
            }
        }
    }

    #[test]
    fn countries_are_two_letters_in_order() {
        let all: Vec<_> = COUNTRIES.split(' ').collect();
        assert_eq!(all.len(), 250);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(all.iter().all(|country| is_country(country.as_bytes())));
        assert!(is_country(b"VN") && !is_country(b"ZZ") && !is_country(b"") && !is_country(b"V"));
    }
}
