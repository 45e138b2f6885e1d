# What verbs say of what they did and found.

# An edit or an event that was accepted.
accepted = accepted: { $records }
accepted-before = accepted (it had been accepted before): { $records }
accepted-pending = pending  it holds, and a second person must confirm it: `dinhba pending`, `dinhba confirm`
accepted-receipt = receipt  { $first } of { $shard }, { $count } edits, hash { $hash }
accepted-request = request  { $request }
no-stocks = there is no card, no account and no dossier
registered = { $label } ({ $title })
number-given-later = Số định danh cá nhân: chưa có, được cấp sau (pending: it is given later, by itself)

# What a form asks.
form-about =
    { $label } ({ $title })
    { $law }
form-asked = Asked:
form-corrects = field=…, field[element]=…  a new value of the record before it; empty clears
form-input = { $name }=…  { $label }{ $of } (as { $value } of `dinhba fields`)
form-input-if-known = { $name }=…  { $label }{ $of }, if known (as { $value } of `dinhba fields`)
form-input-of = {" "}of the { $role } before it
form-needs-grounds = --grounds …  the decision or judgment that it rests on
form-role = { $role }=r-…  { $label }
form-role-made = ({ $role } is made: { $label })
form-role-perhaps = { $role }=r-…  { $label }, if there is one here
form-role-times = { $role }=r-…  { $label }, { $least } to { $most } times
form-which-card = element=…  which card, if it may be several: its key in the record

# Records and their history.
access-denied = denied
because = because { $grounds }
broken-rule = broken rule { $rule }
change-cleared = { $field } cleared
disputed = disputed
on-a-branch = { $what } (on a branch)
set-aside = set aside: { $why }
stocks-by = --by: what is in which state is counted by `unit`, or `all` in one
value-disputed = disputed, received { $at }
value-pending = pending: waits for a second person

# Tables and pages.
no-room = (no room for: { $columns })
or-ask-for-fewer = , or ask for fewer with --unit, --mother or a fuller --born
there-is-more = there is more: go on with the same and --after { $next }
there-may-be-more = there may be more: go on with the same and --after { $next }
no-conflicts = no open conflicts
no-members = nobody names it as theirs
none-known = none is known here
nobody-found = nobody is found here
nothing-pending = nothing waits for a second person
to-be-said = to be { $standing }: { $edit }

# Work.
due-late = { $due }, { $late } { $late ->
    [one] day
   *[other] days
  } late
holidays-not-said = the holidays of a year up to { $year } were not said: days with ? may change (`dinhba holidays`)
nothing-of-that-kind-to-do = nothing of that kind is to be done at { $unit }
nothing-to-do = nothing is to be done at { $unit }
number-comes-by-itself = comes by itself, once the site above hears of it
value-to-write = VALUE

# Figures, targets and quality.
all-units = all
days-early = { $days } days early
days-late = { $days } days late
days-left = , { $days } days left
live-behind = { $count } edits not above; heard { $since }
live-in-step = in step, { $since }
never = never
no-targets = no targets are set
nothing-received = nothing was received from { $from } to { $to }
on-the-last-day = on the last day
target-expected = at this pace on { $day }, { $early }
target-head = { $label } ({ $event }): { $unit }, { $count } from { $first } to { $last }{ $left }
target-never = not at this pace
target-not-begun = not begun
target-reached = reached on { $day }, { $early }
the-centre = (the centre)

# Personal numbers.
adds-up = yes
does-not-add-up = NO
number-assigned = spoken for there: assigned, or written down, and perhaps cancelled since
number-free = granted to nobody
number-grant = { $by } granted { $count } numbers from { $first } on to { $to } ({ $site })
number-left = granted, and not assigned yet
number-on-the-way = with a site that may grant it on
number-outside = written down in a record here, though it is in no block of theirs
number-unknown = not granted to anybody here: ask a site further up
number-void = nobody's ever: { $why }
numbers-last = { $unit }: the numbers last for { $days } more days; the site above grants more over the link
series-does-not-add-up = series { $series }: some numbers were granted twice, or are in no block: a site granted from an old copy of its data, or its key was stolen

# Who holds a request; receipts.
held-now = now, by its own disk
holds-it = yes
no-site-holds-it = no { $tier } site holds it yet
re-establishing = re-establishing
receipt-by = {"  "}by { $subject } ({ $role }) at { $at }, for { $purpose } { $case }
receipt-edit = {"  "}{ $kind } { $record }, edit { $number } of site { $site } for shard { $shard }
receipt-holds = The site with this key signed it. Whether it still holds, a look at the record says.
receipt-made = { $file } has a receipt of { $count } edits
receipt-withheld = {"  "}and { $count } changes that are not shown

# Files.
already-there = already there: lines { $lines }
already-there-and-more = already there: lines { $lines } and more
code-of-two-units = { $code } was taken as today's unit, { $today }; for the one that had this code until the reform, { $before }, write { $written }
columns-taken-for = columns are taken for: { $columns }
exported = { $count } records; what changes from now on: { $watch }
fields-left-out = { $count } fields of a newer schema were left out: use a newer version
ids-are-numbers = the ids of { $count } rows are numbers in the sheet: zeros in front of them are not there, whatever it shows, and such a row would be registered a second time from a file that has them (007, not 7)
import-checked = { $rows } rows: { $good } could be sent, { $bad } bad; nothing was sent
imported = { $rows } rows: { $accepted } accepted, { $there } already there, { $refused } refused, { $bad } bad
imported-unanswered = , { $count } not answered
interrupted = interrupted: { $again }
invented-records = { $count } invented records
mend-rejected-rows = mend the rejected rows, and import the file again: what is there stays as it is; --rejected FILE writes them into a file of their own
rejected-rows-in = the rejected rows are in { $file }: mend them there, and import that file
rejected-rows-unwritten = the rejected rows could not be written: { $failure }; { $again }
roll-summary = { $count } persons, { $doubtful } of them doubtful: a date of theirs is not known to the day
rows-without-id = { $count } persons have neither an id nor a personal number: mend such a row only before it is registered, since afterwards it would be registered a second time; change the record with edit instead
the-standard-input = the standard input
values-left-out = { $count } values of disputed fields were left out: only the latest is written

# How values are written.
written-codes = { $some } | … ({ $count } in all; these and what else may be typed: --json)
written-country = VN, or the country's name
written-day = 1975-03-02 or 02/03/1975, 1975-03, 1975; may be to come
written-day-past = 1975-03-02 or 02/03/1975, 1975-03, 1975; not to come
written-digits = { $count } digits
written-digits-between = { $min } to { $max } digits
written-email = e-mail address
written-flag = yes | no
written-hex = 64 hex digits
written-letters = letters (each word in one script), up to { $count } characters
written-phone = telephone number, 8 to 15 digits
written-record = r-… of a { $kind }
written-slashes = { $names }; each { $each }
written-text = text, up to { $count } characters
written-unit = code@day: 02683@2025-06-30

# The site, its links, holidays and units.
access-log-differs = access log: { $site } said of { $group } that it has { $count } entries, and { $what } ({ $said } at { $at }): have an auditor look at that site
author-parked = parked: { $author } of { $site } in { $shard }: { $reason }; take it again with `site release-author { $shard } { $author }`
author-released = { $author } is released in { $shard }: its edits come with the next contact
counts = yes
feature-level = feature level { $level }
group-not-well = not well: { $group }: { $why }
level-not-said = not said
log-named-twice = gave a name too many to it
log-said-fewer = then said fewer
log-said-others = then others in their place
no-group-yet = none yet
no-holidays-said = nothing was said: deadlines are counted with the holidays that every year has, and may change
no-leader = none
node-asked = asked { $node }, version { $version }, knows level { $level }
node-is-not-well = NOT WELL: { $node }: { $why }
node-is-well = { $node } is well
place-file =
    the place file for its nodes:
    { $file }
said-at-founding = founding
shard-to-all-below = { $unit } (to all below)
step-behind = behind
step-differs = DIFFERS
step-in-step = in step
step-top = top
step-unknown = unknown

# Backups.
archive-is-whole = every byte is as it was written; that it can be opened shows only when it is restored
backup-goes-on = an earlier backup was broken off; it goes on from there
backup-taken = { $file }: { $added } edits and { $bytes } bytes, up to { $until }
