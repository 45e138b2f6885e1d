//! What the columns of a table are, by its header and by a table of names that the caller may give.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use csv::StringRecord;
use dinhba_core::ids::RecordId;
use dinhba_core::schema::{self, ELEMENT_BYTES_MAX, FieldId, RecordKind, Repeat, Shape, Type, field, fields};
use dinhba_core::text::{fold, tidy};

use super::cells::{Rows, SEPARATORS};
use super::{COLUMNS_MAX, DOUBTS_MAX, LOST, Problem, text, too_many_columns};
use crate::draft::{DraftRecord, map_references};

/// The column in which a file of rejected rows says why; reading passes over it.
pub(super) const REJECTED: &str = "rejected";

/// Letters that a header may differ in from a field's name for that name to be proposed.
const TYPING_ERRORS_MAX: usize = 2;

/// Where the texts of a column or key go.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// How it is written: the field's name, or the label of fields that have several names.
    pub(super) name: Cow<'static, str>,
    pub(super) element: String,
    /// The field that it is in a record of each kind, in their order.
    fields: Meant,
}

/// What a name or a label means in each kind of record.
type Meant = [Option<FieldId>; RecordKind::OF_PEOPLE.len()];

/// A label that both kinds of record have may mean a field of another name in each.
fn labels() -> &'static BTreeMap<String, (&'static str, Meant)> {
    static LABELS: LazyLock<BTreeMap<String, (&'static str, Meant)>> = LazyLock::new(|| {
        let mut labels: BTreeMap<String, (&'static str, Meant)> = BTreeMap::new();
        for (at, field) in
            (0..).zip(RecordKind::OF_PEOPLE).flat_map(|(at, kind)| fields(kind).map(move |field| (at, field)))
        {
            let (written, meant) = labels.entry(folded(field.label)).or_insert((field.name, Meant::default()));
            if *written != field.name {
                *written = field.label;
            }
            meant[at] = Some(field.id);
        }
        labels
    });
    &LABELS
}

/// A name and the element key behind it.
fn split(title: &str) -> (&str, String) {
    match title.trim().strip_suffix(']').and_then(|title| title.split_once('[')) {
        Some((name, element)) => (name.trim(), tidy(element).to_lowercase()),
        None => (title.trim(), String::new()),
    }
}

fn folded(name: &str) -> String {
    fold(name).replace(' ', "_")
}

impl Column {
    /// By the name or the label of a field, perhaps with an element key behind it; none if no kind of record has it.
    pub(super) fn named(title: &str) -> Option<Self> {
        Self::by_name(title).or_else(|| {
            let (name, element) = split(title);
            let folded = folded(name);
            let of_label = || labels().get(&folded).map(|(written, fields)| (Cow::Borrowed(*written), *fields));
            let (name, fields) = Self::meant(&folded).or_else(of_label)?;
            Some(Column { name, element, fields })
        })
    }

    /// By the name of a field as it is, which most keys are: folding each key of each row takes long.
    fn by_name(title: &str) -> Option<Self> {
        let (name, element) = split(title);
        let (name, fields) = Self::meant(name)?;
        Some(Column { name, element, fields })
    }

    /// What a name means; also that of a field that this version does not know (`field-99`).
    fn meant(name: &str) -> Option<(Cow<'static, str>, Meant)> {
        let fields = RecordKind::OF_PEOPLE.map(|kind| FieldId::named(kind, name));
        let known = fields.into_iter().flatten().next()?.get();
        Some((known.map_or_else(|| Cow::Owned(name.to_owned()), |known| Cow::Borrowed(known.name)), fields))
    }

    fn field(&self, kind: RecordKind) -> Option<FieldId> {
        RecordKind::OF_PEOPLE.into_iter().zip(self.fields).find(|(of, _)| *of == kind).and_then(|(_, field)| field)
    }

    fn known(&self) -> impl Iterator<Item = &'static schema::Field> {
        self.fields.into_iter().flatten().filter_map(FieldId::get)
    }

    /// Whether a record may get one value from this and one from the other.
    fn meets(&self, other: &Column) -> bool {
        let is_same = |(one, two): (Option<FieldId>, Option<FieldId>)| one.is_some() && one == two;
        self.element == other.element && self.fields.into_iter().zip(other.fields).any(is_same)
    }

    /// Whether each line of a cell is an element of the field.
    pub(super) fn takes_lines(&self) -> bool {
        self.element.is_empty() && self.known().any(|field| field.repeat != Repeat::Once)
    }

    pub(super) fn is_date(&self) -> bool {
        self.known().any(|field| matches!(field.ty, Type::Date(_)))
    }

    /// Whether its values are digits as they are typed, so that a number of a sheet has lost what matters.
    pub(super) fn is_digits(&self) -> bool {
        let is_digits =
            |ty: &Type| matches!(ty, Type::Number | Type::Text { shape: Shape::Digits { .. } | Shape::Phone, .. });
        let is_file = |id: FieldId| [field::RESIDENCE_FILE_NUMBER, field::HOUSEHOLD_FILE_NUMBER].contains(&id);
        self.known().any(|field| is_digits(&field.ty) || is_file(field.id))
    }

    /// Gives a record what a text says of this; an empty one says nothing.
    pub(super) fn put(&self, record: &mut DraftRecord, text: &str) -> Result<(), String> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let field = self.field(record.kind);
        let field = field.ok_or_else(|| format!("{} is no field of a {}", self.name, record.kind))?;
        if !self.takes_lines() {
            record.put(field, &schema::element(field, &self.element), tidy(text));
            return Ok(());
        }
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line = tidy(line);
            let (element, text) = element_of(&line)
                .ok_or_else(|| format!("{} must have an element key on each line: father: …", self.name))?;
            record.put(field, &schema::element(field, &element.trim().to_lowercase()), text.trim());
        }
        Ok(())
    }

    /// A text with each reference that `find` knows replaced by it; in a table it puts nothing in doubt.
    pub(super) fn relink(&self, kind: RecordKind, text: &str, find: &dyn Fn(&str) -> Option<RecordId>) -> String {
        let Some(field) = self.field(kind) else { return on_one_line(text) };
        let relink = |text: &str| {
            let replace = |name: &str| Some(find(name).map_or_else(|| name.to_owned(), |id| format!("@{id}")));
            map_references(field, text, replace).unwrap_or_else(|| text.to_owned())
        };
        if !self.takes_lines() {
            return relink(&on_one_line(text));
        }
        let lines: Vec<String> = text.lines().map(on_one_line).filter(|line| !line.is_empty()).collect();
        if lines.len() > 1 && lines.iter().any(|line| element_of(line).is_none()) {
            // A sheet may hold it, where each row stands by itself.
            return format!("{LOST}{}", lines.join(" "));
        }
        let line = |line: &String| match element_of(line) {
            Some((element, text)) => format!("{element}:{}", relink(text)),
            None => line.clone(),
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A text as a cell of one line; what puts a whole file in doubt is marked as lost.
pub(super) fn on_one_line(text: &str) -> String {
    tidy(text).replace(['\0', '\u{feff}'], LOST)
}

/// The key and the text of a line of a field that repeats.
pub(super) fn element_of(line: &str) -> Option<(&str, &str)> {
    line.split_once(':').filter(|(element, _)| {
        let element = element.trim();
        // A relation may be named in Vietnamese. What a separator or a slash is in is no key, but a row.
        let is_key = |c: char| c.is_alphanumeric() || matches!(c, '-' | ' ');
        (1..=ELEMENT_BYTES_MAX).contains(&element.chars().count()) && element.chars().all(is_key)
    })
}

/// What a column of a table is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Role {
    Kind,
    Id,
    Home,
    Field(Column),
    /// Passed over, because the caller or a file of rejected rows says so.
    Ignored,
    /// Without a title: nothing may stand in it.
    Unnamed,
}

impl Role {
    fn named(title: &str, titles: &Titles) -> Option<Self> {
        if titles.0.is_empty()
            && let Some(column) = Column::by_name(title)
        {
            return Some(Role::Field(column));
        }
        let folded = fold(title);
        match titles.0.get(&folded) {
            Some(meant) => Role::of_schema(meant),
            None if folded.is_empty() => Some(Role::Unnamed),
            None => Role::of_schema(title),
        }
    }

    fn of_schema(title: &str) -> Option<Self> {
        Some(match fold(title).as_str() {
            "kind" => Role::Kind,
            "id" => Role::Id,
            "home" => Role::Home,
            "-" | REJECTED => Role::Ignored,
            _ => Role::Field(Column::named(title)?),
        })
    }

    /// How it is written in a header; none for what is passed over.
    pub(super) fn title(&self) -> Option<String> {
        Some(match self {
            Role::Kind => "kind".to_owned(),
            Role::Id => "id".to_owned(),
            Role::Home => "home".to_owned(),
            Role::Field(Column { name, element, .. }) if element.is_empty() => name.clone().into_owned(),
            Role::Field(Column { name, element, .. }) => format!("{name}[{element}]"),
            Role::Ignored | Role::Unnamed => return None,
        })
    }

    /// Whether a record may get one value from this and one from the other.
    fn meets(&self, other: &Role) -> bool {
        match (self, other) {
            (Role::Field(one), Role::Field(two)) => one.meets(two),
            (Role::Ignored | Role::Unnamed, _) => false,
            (one, two) => one == two,
        }
    }
}

/// What titles of columns mean beyond the schema's names and labels: a table of two columns, `column` and `field`. A field is
/// one of the schema, perhaps with an element (`relative[father]`), or `kind`, `id`, `home`, or `-` for what is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Titles(BTreeMap<String, String>);

impl Titles {
    /// Passes over the column of that title.
    pub fn ignore(&mut self, title: &str) {
        self.0.insert(fold(title), "-".to_owned());
    }

    /// Reads a table of titles.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let text = text::decode(bytes)?;
        let mut found = Titles::default();
        let rows = SEPARATORS.into_iter().map(|separator| Rows::of(&text, separator)).find_map(|mut rows| {
            let header = rows.next()?.ok()?.cells;
            let is_it = header.iter().map(fold).eq(["column", "field"]);
            is_it.then_some(rows)
        });
        let rows = rows.ok_or_else(|| Problem::at(1, "the first line must be: column,field"))?;
        for row in rows {
            let row = row?;
            if row.cells.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            let [title, field] = [0, 1].map(|at| tidy(row.cells.get(at).unwrap_or_default()));
            let is_whole = row.cells.len() == 2 && !title.is_empty();
            if !is_whole || field.is_empty() {
                return Err(Problem::at(row.line, "must have a title and a field, or - to pass over the column"));
            }
            if Role::of_schema(&field).is_none() {
                let text = "names no field: see dinhba fields; or write kind, id, home, or - to pass over the column";
                return Err(Problem::at(row.line, text));
            }
            if found.0.insert(fold(&title), field).is_some() {
                return Err(Problem::at(row.line, "names a column that another line names too"));
            }
        }
        Ok(found)
    }

    /// What `key` of a record's fields means; none if it is not known, nothing in it if it is passed over.
    pub(super) fn column(&self, key: &str) -> Option<Option<Column>> {
        match Role::named(key, self)? {
            Role::Field(column) => Some(Some(column)),
            Role::Ignored => Some(None),
            Role::Kind | Role::Id | Role::Home | Role::Unnamed => None,
        }
    }
}

/// The separator that makes most of a header known, since labels may have commas in them. The header is the first row.
pub(super) fn separator_of(text: &str, titles: &Titles) -> u8 {
    let fit = |separator: u8| match Rows::of(text, separator).next() {
        Some(Ok(row)) => {
            let is_known = |title: &&str| !matches!(Role::named(title, titles), None | Some(Role::Unnamed));
            (row.cells.iter().filter(is_known).count(), row.cells.len())
        }
        Some(Err(problem)) if problem == too_many_columns(problem.line) => (0, COLUMNS_MAX + 1),
        _ => (0, 0),
    };
    // Of equals the last one wins.
    SEPARATORS.into_iter().rev().max_by_key(|&separator| fit(separator)).unwrap_or(b',')
}

/// The columns of a header, and what is doubtful about them.
pub(super) fn columns_of(line: u64, header: &StringRecord, titles: &Titles) -> Result<Vec<Role>, Vec<Problem>> {
    if header.len() > COLUMNS_MAX {
        return Err(vec![too_many_columns(line)]);
    }
    let (mut roles, mut problems) = (Vec::new(), Vec::new());
    let mut doubt = |text: String| problems.push(Problem { line, reason: text });
    for (title, column) in header.iter().zip(1..) {
        let role = Role::named(title, titles).unwrap_or_else(|| {
            let proposed = similar(title).map(|name| format!(" (is it {name}?)")).unwrap_or_default();
            doubt(format!(
                "column {column} is no field{proposed}: give it a field's name (see dinhba fields), say what it is with \
                 --columns, or pass over it with --ignore-column"
            ));
            Role::Ignored
        });
        if roles.iter().any(|before| role.meets(before)) {
            doubt(format!("column {column} is {} a second time", role.title().unwrap_or_default()));
        }
        roles.push(role);
    }
    let has_field = roles.iter().any(|role| matches!(role, Role::Field(_)));
    if !has_field {
        doubt(
            "names no field of a record: the first line must say what the columns are, such as id,name,birth_date"
                .to_owned(),
        );
    }
    let absent: Vec<_> = titles.0.keys().filter(|title| !header.iter().any(|found| fold(found) == **title)).collect();
    if !absent.is_empty() {
        let words = absent.iter().map(|title| title.as_str()).collect::<Vec<_>>().join("; ");
        doubt(format!("has no column that --columns or --ignore-column names: {words}"));
    }
    problems.truncate(DOUBTS_MAX);
    if problems.is_empty() { Ok(roles) } else { Err(problems) }
}

/// The field whose name looks like `title`. The title itself is not shown: without a header it is somebody's name.
fn similar(title: &str) -> Option<&'static str> {
    let squeeze = |text: &str| fold(text).replace(|c: char| !c.is_alphanumeric(), "");
    let title = squeeze(title);
    let names = RecordKind::OF_PEOPLE.into_iter().flat_map(fields).map(|field| field.name).chain(["kind", "home"]);
    let distance = |name: &str| strsim::damerau_levenshtein(&squeeze(name), &title);
    let (name, distance) = names.map(|name| (name, distance(name))).min_by_key(|(_, distance)| *distance)?;
    (distance <= TYPING_ERRORS_MAX && title.chars().count() > 2 * TYPING_ERRORS_MAX).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(header: &[&str], titles: &Titles) -> Vec<String> {
        let header = StringRecord::from(header.to_vec());
        let problems = columns_of(1, &header, titles).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.reason).collect()
    }

    #[test]
    fn a_header_is_known_whole_or_doubted() {
        let none = Titles::default();
        assert_eq!(
            reasons(&["ID", "Họ, chữ đệm và tên khai sinh", "relative[Father]", "relative", ""], &none),
            [""; 0]
        );
        let found = reasons(&["id", "name", "birthdate", "Nguyễn/Văn/An"], &none);
        assert!(found[0].starts_with("column 3 is no field (is it birth_date?)"), "{found:?}");
        assert!(found[1].starts_with("column 4 is no field:") && !found[1].contains("An"), "{found:?}");
        assert!(reasons(&["name", "Họ, chữ đệm và tên khai sinh"], &none)[0].contains("name a second time"));
        assert!(reasons(&["id", "home"], &none)[0].contains("names no field"));
    }

    #[test]
    fn titles_are_mapped_by_a_table() {
        let table = "column;field\r\nSTT;id\r\nHọ tên;name\r\nBố;relative[father]\r\nGhi chú nội bộ;-\r\n";
        let mut titles = Titles::read(table.as_bytes()).unwrap();
        assert_eq!(reasons(&["stt", "HỌ TÊN", "Bố", "Ghi chú nội bộ"], &titles), [""; 0]);
        assert!(reasons(&["stt", "HỌ TÊN", "Bố"], &titles)[0].contains("ghi chu noi bo"));
        titles.ignore("Xóm");
        assert_eq!(reasons(&["stt", "HỌ TÊN", "Bố", "Ghi chú nội bộ", "xóm"], &titles), [""; 0]);
        for (bad, line) in [
            ("a,b\n", 1),
            ("column,field\nSTT,\n", 2),
            ("column,field\nSTT,id,x\n", 2),
            ("column,field\nSTT,number\n", 2),
            ("column,field\nSTT,id\nstt,-\n", 3),
            ("column,field\nSTT,\"id\n", 2),
        ] {
            assert_eq!(Titles::read(bad.as_bytes()).map_err(|problem| problem.line), Err(line), "{bad:?}");
        }
    }

    #[test]
    fn a_line_of_a_repeated_field_has_a_key() {
        assert_eq!(element_of("father: name=A; since=12:30"), Some(("father", " name=A; since=12:30")));
        assert_eq!(element_of("Child-1:x"), Some(("Child-1", "x")));
        assert_eq!(element_of("mẹ: name=B"), Some(("mẹ", " name=B")));
        for none in ["2,Vũ/Văn/Ba,1991: x", "2;Ba: x", "2\tBa: x", "no key", ": x", "name=A: x"] {
            assert_eq!(element_of(none), None, "{none}");
        }
    }
}
