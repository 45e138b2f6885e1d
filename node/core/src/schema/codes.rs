//! The lists that a coded value chooses from. A code's number is what is stored and is never re-used; its name stands in
//! files and on the wire; its label is what an officer reads and may type.

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
}

macro_rules! codes {
    ($($(#[$doc:meta])* $list:ident = [$($number:literal $name:literal $label:literal),* $(,)?];)*) => {
        $($(#[$doc])* pub const $list: &[Code] = &[$(Code { number: $number, name: $name, label: $label }),*];)*
        /// Every list, for checks over all of them.
        pub const LISTS: &[&[Code]] = &[$($list),*];
    };
}

codes! {
    /// Sex.
    SEX = [1 "male" "Nam", 2 "female" "Nữ"];
    /// Blood group, with the Rhesus factor where it is known.
    BLOOD_GROUP = [
        1 "a" "A", 2 "b" "B", 3 "ab" "AB", 4 "o" "O",
        5 "a+" "A Rh+", 6 "b+" "B Rh+", 7 "ab+" "AB Rh+", 8 "o+" "O Rh+",
        9 "a-" "A Rh-", 10 "b-" "B Rh-", 11 "ab-" "AB Rh-", 12 "o-" "O Rh-",
    ];
    /// Marital status.
    MARITAL_STATUS = [
        1 "single" "Chưa kết hôn", 2 "married" "Đã kết hôn", 3 "divorced" "Đã ly hôn", 4 "widowed" "Góa",
    ];
    /// Relation to the head of the household.
    RELATION_TO_HEAD = [
        1 "head" "Chủ hộ", 2 "wife" "Vợ", 3 "husband" "Chồng", 4 "child" "Con", 5 "parent" "Cha mẹ",
        6 "sibling" "Anh chị em", 7 "grandchild" "Cháu nội ngoại", 8 "grandparent" "Ông bà", 9 "child_in_law" "Con dâu rể",
        10 "other_relative" "Họ hàng khác", 11 "no_relation" "Ở nhờ, ở thuê",
    ];
    /// The kinds of identity card.
    CARD_KIND = [
        1 "cmnd" "Chứng minh nhân dân", 2 "cccd" "Căn cước công dân", 3 "can_cuoc" "Căn cước",
        4 "certificate" "Giấy chứng nhận căn cước",
    ];
    /// The states of an identity card.
    CARD_STATE = [
        1 "requested" "Đã đề nghị", 2 "captured" "Đã thu nhận", 3 "approved" "Đã duyệt", 4 "produced" "Đã sản xuất",
        5 "delivered" "Đã trả", 6 "expired" "Hết hạn", 7 "lost" "Đã mất", 8 "revoked" "Đã thu hồi", 9 "held" "Đang giữ",
    ];
    /// The states of an e-identification account.
    E_IDENTIFICATION = [
        1 "none" "Chưa có", 2 "level_1" "Mức 1", 3 "level_2" "Mức 2", 4 "level_1_activated" "Mức 1, đã kích hoạt",
        5 "level_2_activated" "Mức 2, đã kích hoạt", 6 "locked" "Đã khóa", 7 "closed" "Đã đóng",
    ];
    /// The 54 peoples by their official numbers, and foreigners.
    ETHNICITY = [
        1 "kinh" "Kinh", 2 "tay" "Tày", 3 "thai" "Thái", 4 "hoa" "Hoa", 5 "khmer" "Khơ-me", 6 "muong" "Mường",
        7 "nung" "Nùng", 8 "hmong" "Mông", 9 "dao" "Dao", 10 "gia_rai" "Gia-rai", 11 "ngai" "Ngái", 12 "e_de" "Ê-đê",
        13 "ba_na" "Ba-na", 14 "xo_dang" "Xơ-đăng", 15 "san_chay" "Sán Chay", 16 "co_ho" "Cơ-ho", 17 "cham" "Chăm",
        18 "san_diu" "Sán Dìu", 19 "hre" "Hrê", 20 "mnong" "Mnông", 21 "ra_glai" "Ra-glai", 22 "xtieng" "Xtiêng",
        23 "bru_van_kieu" "Bru-Vân Kiều", 24 "tho" "Thổ", 25 "giay" "Giáy", 26 "co_tu" "Cơ-tu",
        27 "gie_trieng" "Gié-Triêng", 28 "ma" "Mạ", 29 "kho_mu" "Khơ-mú", 30 "co" "Co", 31 "ta_oi" "Tà-ôi",
        32 "cho_ro" "Chơ-ro", 33 "khang" "Kháng", 34 "xinh_mun" "Xinh-mun", 35 "ha_nhi" "Hà Nhì", 36 "chu_ru" "Chu-ru",
        37 "lao" "Lào", 38 "la_chi" "La Chí", 39 "la_ha" "La Ha", 40 "phu_la" "Phù Lá", 41 "la_hu" "La Hủ",
        42 "lu" "Lự", 43 "lo_lo" "Lô Lô", 44 "chut" "Chứt", 45 "mang" "Mảng", 46 "pa_then" "Pà Thẻn",
        47 "co_lao" "Cơ Lao", 48 "cong" "Cống", 49 "bo_y" "Bố Y", 50 "si_la" "Si La", 51 "pu_peo" "Pu Péo",
        52 "brau" "Brâu", 53 "o_du" "Ơ Đu", 54 "ro_mam" "Rơ-măm", 55 "foreign" "Người nước ngoài",
    ];
    /// Religions that the state recognises.
    RELIGION = [
        1 "none" "Không", 2 "buddhism" "Phật giáo", 3 "catholicism" "Công giáo", 4 "protestantism" "Tin Lành",
        5 "cao_dai" "Cao Đài", 6 "hoa_hao" "Phật giáo Hòa Hảo", 7 "islam" "Hồi giáo", 8 "bahai" "Baha'i",
        9 "tinh_do" "Tịnh độ cư sĩ Phật hội", 10 "adventism" "Cơ đốc Phục lâm", 11 "tu_an" "Phật giáo Tứ Ân Hiếu Nghĩa",
        12 "minh_su" "Minh Sư đạo", 13 "minh_ly" "Minh Lý đạo", 14 "brahmanism" "Bà-la-môn", 15 "mormonism" "Mặc Môn",
        16 "ta_lon" "Phật giáo Hiếu Nghĩa Tà Lơn", 17 "buu_son" "Bửu Sơn Kỳ Hương", 18 "other" "Khác",
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

/// The code with that name, or with that label however accented.
pub(super) fn find(choices: &'static [Code], text: &str) -> Option<&'static Code> {
    let folded = fold(text);
    let by_name = choices.iter().find(|code| code.name == text);
    by_name.or_else(|| choices.iter().find(|code| fold(code.label) == folded || code.name == folded))
}

/// Their names, for a message.
pub(super) fn names(choices: &[Code]) -> String {
    choices.iter().map(|code| code.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_codes_of_a_list_are_taken_for_each_other() {
        for list in LISTS {
            for (index, code) in list.iter().enumerate() {
                assert!(code.number > 0);
                assert_eq!(find(list, code.name), Some(code));
                assert_eq!(find(list, code.label), Some(code));
                assert_eq!(find(list, &fold(code.label).to_uppercase()), Some(code), "{}", code.name);
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
