//! Names as people in Vietnam have them: by people, part of the country, sex and generation. Weights are rough shares.

/// Family names and their weights.
pub(super) type Families = &'static [(&'static str, u32)];

pub(super) const FAMILIES_NORTH: Families = &[
    ("Nguyễn", 380),
    ("Trần", 110),
    ("Lê", 95),
    ("Phạm", 72),
    ("Hoàng", 45),
    ("Vũ", 42),
    ("Phan", 30),
    ("Bùi", 24),
    ("Đỗ", 24),
    ("Đặng", 21),
    ("Ngô", 16),
    ("Dương", 12),
    ("Đinh", 10),
    ("Đào", 10),
    ("Trịnh", 9),
    ("Đoàn", 8),
    ("Hà", 8),
    ("Lương", 7),
    ("Mai", 6),
    ("Tô", 4),
    ("Tạ", 4),
    ("Chu", 4),
    ("Cao", 4),
    ("Lưu", 3),
    ("Kiều", 2),
    ("Quách", 2),
    ("Nghiêm", 1),
    ("Khuất", 1),
];
pub(super) const FAMILIES_SOUTH: Families = &[
    ("Nguyễn", 330),
    ("Trần", 115),
    ("Lê", 100),
    ("Huỳnh", 70),
    ("Phạm", 60),
    ("Võ", 50),
    ("Phan", 45),
    ("Đặng", 25),
    ("Bùi", 18),
    ("Hồ", 18),
    ("Ngô", 14),
    ("Trương", 14),
    ("Dương", 12),
    ("Đỗ", 12),
    ("Lý", 8),
    ("Đoàn", 7),
    ("Mai", 6),
    ("Cao", 5),
    ("Châu", 5),
    ("Tô", 4),
    ("Thái", 4),
    ("Lâm", 4),
    ("Tăng", 2),
    ("Từ", 2),
    ("Kiều", 1),
];

/// Family names of a people; of others those of their part of the country.
pub(super) fn families(ethnicity: &str) -> Option<Families> {
    Some(match ethnicity {
        "tay" => &[("Hoàng", 25), ("Nông", 25), ("Lương", 10), ("Hà", 10), ("Ma", 9), ("Bế", 7), ("Lục", 6), ("La", 4)],
        "nung" => {
            &[("Nông", 25), ("Lương", 15), ("Hoàng", 15), ("Vi", 10), ("Lý", 10), ("Triệu", 8), ("Mã", 6), ("Lục", 6)]
        }
        "thai" => {
            &[("Lò", 35), ("Quàng", 15), ("Lường", 12), ("Cà", 10), ("Tòng", 9), ("Vi", 8), ("Hà", 6), ("Lộc", 3)]
        }
        "muong" => &[("Bùi", 45), ("Đinh", 20), ("Quách", 10), ("Hà", 8), ("Bạch", 5), ("Phạm", 5), ("Trương", 3)],
        "hmong" => {
            &[("Giàng", 20), ("Vàng", 20), ("Thào", 14), ("Sùng", 14), ("Lý", 10), ("Hạng", 7), ("Mùa", 6), ("Cứ", 3)]
        }
        "dao" => &[("Triệu", 25), ("Đặng", 20), ("Bàn", 18), ("Phàn", 10), ("Lý", 10), ("Chảo", 7), ("Tẩn", 7)],
        "khmer" => &[("Thạch", 30), ("Sơn", 20), ("Danh", 15), ("Kim", 12), ("Lâm", 10), ("Kiên", 6), ("Châu", 5)],
        "hoa" => {
            &[("Trần", 20), ("Lâm", 15), ("Lý", 15), ("Quách", 8), ("Vương", 8), ("Mã", 6), ("Tăng", 5), ("Diệp", 4)]
        }
        "gia_rai" => &[("Rơ Châm", 25), ("Ksor", 20), ("Siu", 20), ("Kpă", 12), ("Nay", 10), ("Rah Lan", 8)],
        "ba_na" => &[("Đinh", 60), ("Y", 10)],
        "cham" => &[("Thiên", 15), ("Đàng", 15), ("Quảng", 12), ("Bá", 10), ("Hứa", 10), ("Châu", 8), ("Báo", 5)],
        _ => return None,
    })
}

/// Clans of the Ê-đê, which stand last; `Y` or `H'` in front tells the sex.
pub(super) const E_DE_CLANS: &[&str] = &["Niê", "Mlô", "Êban", "Byă", "Kbuôr", "Ayun", "Kđoh"];
pub(super) const E_DE_MEN: &[&str] = &["Bhăm", "Moan", "Thih", "Wêl", "Khăm", "Tlam", "Djăm"];
pub(super) const E_DE_WOMEN: &[&str] = &["Hen", "Bia", "Linh", "Loan", "Ngăm", "Drih", "Wiên"];

/// Middle names; `""` for none. Old: born before 1980.
pub(super) const MIDDLE_MEN_OLD: &[&str] =
    &["Văn", "Văn", "Văn", "Văn", "Hữu", "Đức", "Công", "Đình", "Xuân", "Ngọc", "Bá", ""];
pub(super) const MIDDLE_MEN_YOUNG: &[&str] = &[
    "Văn", "Minh", "Gia", "Quang", "Tuấn", "Hoàng", "Đức", "Bảo", "Nhật", "Anh", "Thành", "Hữu", "Quốc", "Đăng", "Hải",
    "",
];
pub(super) const MIDDLE_WOMEN_OLD: &[&str] = &["Thị", "Thị", "Thị", "Thị", "Thị", "Thị", "Thị", "Thị", "Ngọc", ""];
pub(super) const MIDDLE_WOMEN_YOUNG: &[&str] = &[
    "Thị",
    "Thị",
    "Thị",
    "Thị Ngọc",
    "Thị Thu",
    "Thị Thanh",
    "Ngọc",
    "Thu",
    "Thanh",
    "Minh",
    "Khánh",
    "Bảo",
    "Phương",
    "Gia",
    "Quỳnh",
    "Hoàng",
    "Hà",
    "Mai",
];

/// Given names.
pub(super) const MEN_OLD: &[&str] = &[
    "Hùng", "Dũng", "Bình", "Sơn", "Thành", "Hải", "Cường", "Tuấn", "Minh", "Đức", "Long", "Quang", "Thắng", "Lợi",
    "Phúc", "Tài", "Hòa", "Chiến", "Tiến", "Lâm", "Khánh", "Vinh", "Thọ", "Xuân", "Mạnh", "Toàn", "Bảy", "Tư", "Sáu",
    "Út", "Kiên", "Nghĩa", "Ninh", "Oanh", "Quý", "Sáng", "Đạt", "Huy", "Thái", "Trung",
];
pub(super) const MEN_YOUNG: &[&str] = &[
    "Anh",
    "Huy",
    "Khang",
    "Bảo",
    "Minh",
    "Phúc",
    "Khôi",
    "Nam",
    "Long",
    "Đạt",
    "Kiệt",
    "Quân",
    "Khoa",
    "Hiếu",
    "Thịnh",
    "Phát",
    "Nguyên",
    "Phong",
    "Duy",
    "Dương",
    "Tùng",
    "Hoàng",
    "Hưng",
    "Trí",
    "Tâm",
    "Sơn",
    "Vũ",
    "Việt",
    "Thiên",
    "An",
    "Bách",
    "Lộc",
    "Nghĩa",
    "Tú",
    "Trường",
];
pub(super) const WOMEN_OLD: &[&str] = &[
    "Hoa",
    "Lan",
    "Hương",
    "Hồng",
    "Mai",
    "Hạnh",
    "Thanh",
    "Thủy",
    "Nga",
    "Hà",
    "Loan",
    "Liên",
    "Yến",
    "Tuyết",
    "Nguyệt",
    "Xuân",
    "Hòa",
    "Bích",
    "Cúc",
    "Đào",
    "Phượng",
    "Tâm",
    "Vân",
    "Thu",
    "Hằng",
    "Dung",
    "Lý",
    "Thơm",
    "Nhàn",
    "Mận",
    "Sen",
    "Gái",
    "Bé",
    "Ba",
    "Năm",
    "Thúy",
    "Oanh",
    "Hiền",
    "Phương",
    "Thảo",
];
pub(super) const WOMEN_YOUNG: &[&str] = &[
    "Anh", "Linh", "Trang", "Chi", "Ngân", "Vy", "My", "Hân", "Nhi", "Trâm", "Thảo", "Ngọc", "Uyên", "Phương", "Như",
    "Hà", "Quỳnh", "Mai", "Giang", "Ly", "Hương", "Yến", "Diệp", "Châu", "An", "Thư", "Huyền", "Nga", "Tiên", "Thùy",
    "Đan", "Khuê", "Hiền", "Trinh", "Vân",
];

/// Hamlets and streets of address lines.
pub(super) const HAMLETS: &[&str] = &[
    "Đông",
    "Đoài",
    "Trung",
    "Thượng",
    "Hạ",
    "Nội",
    "Ngoại",
    "An Bình",
    "Tân Lập",
    "Phú Mỹ",
    "Hòa Bình",
    "Đồng Tâm",
    "Tân Tiến",
    "Quyết Thắng",
    "Vĩnh Phúc",
    "Bản Mới",
    "Nà Pồng",
    "Pác Bó",
    "Suối Cát",
    "Cây Đa",
    "Bến Đò",
    "Chợ Cũ",
];
pub(super) const STREETS: &[&str] = &[
    "Trần Hưng Đạo",
    "Lê Lợi",
    "Quang Trung",
    "Hai Bà Trưng",
    "Nguyễn Trãi",
    "Lý Thường Kiệt",
    "Phan Chu Trinh",
    "Hùng Vương",
    "Nguyễn Du",
    "Bà Triệu",
    "Lê Duẩn",
    "Trường Chinh",
    "Điện Biên Phủ",
    "Ngô Quyền",
    "Võ Thị Sáu",
    "Cách Mạng Tháng Tám",
];

/// Peoples that live in a province besides the Kinh, with their shares in percent. Codes are those of either list.
pub(super) fn peoples(province: &str) -> &'static [(&'static str, u32)] {
    match province {
        "02" => &[("hmong", 34), ("tay", 23), ("dao", 15), ("nung", 10)],
        "04" => &[("tay", 41), ("nung", 30), ("hmong", 11), ("dao", 10)],
        "06" => &[("tay", 52), ("dao", 18), ("nung", 9)],
        "08" => &[("tay", 26), ("dao", 13), ("san_chay", 9)],
        "10" | "15" => &[("hmong", 22), ("tay", 17), ("dao", 12), ("thai", 7)],
        "11" | "12" => &[("thai", 35), ("hmong", 35), ("dao", 6), ("kho_mu", 3)],
        "14" => &[("thai", 53), ("hmong", 16), ("muong", 7)],
        "17" => &[("muong", 63), ("thai", 4), ("tay", 3)],
        "19" | "24" => &[("tay", 8), ("nung", 6), ("san_diu", 3)],
        "20" => &[("nung", 42), ("tay", 36)],
        "25" => &[("muong", 15)],
        "38" => &[("muong", 10), ("thai", 6)],
        "40" => &[("thai", 10), ("kho_mu", 1)],
        "51" | "49" => &[("hre", 10), ("co_tu", 3)],
        "56" | "58" => &[("cham", 9), ("ra_glai", 10)],
        "60" => &[("cham", 3), ("ra_glai", 1)],
        "62" => &[("xo_dang", 25), ("ba_na", 12), ("gie_trieng", 8)],
        "64" => &[("gia_rai", 30), ("ba_na", 12)],
        "66" => &[("e_de", 19), ("nung", 4), ("mnong", 2)],
        "67" => &[("mnong", 8), ("nung", 6), ("hmong", 5)],
        "68" => &[("co_ho", 13), ("ma", 3)],
        "79" => &[("hoa", 5)],
        "84" | "94" => &[("khmer", 31), ("hoa", 3)],
        "86" | "91" | "92" | "96" => &[("khmer", 10), ("hoa", 2)],
        _ => &[],
    }
}
