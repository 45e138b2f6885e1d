# Words of closed lists: what programs call things, and people. A key is the list and the word.

aside-flood = flood
aside-held = held
aside-kind = kind
aside-level = level
aside-rejected = rejected
aside-twin = twin
aside-value = value
aside-void = void

edit-change = change
edit-confirmation = confirmation
edit-decision = decision
edit-grant = grant
edit-hold = hold
edit-move = move
edit-proposal = proposal
edit-reject = reject
edit-release = release
edit-unknown = unknown

flag-no = no
flag-yes = yes

kind-block = block
kind-calendar = calendar
kind-dossier = dossier
kind-household = household
kind-person = person
kind-site = site
kind-target = target
kind-unit = unit
kind-unknown = unknown

link-connected = connected
link-down = down
link-up = up
link-waiting = waiting

looked-access-log = access-log
looked-add-node = add-node
looked-backup = backup
looked-conflicts = conflicts
looked-dossiers = dossiers
looked-export = export
looked-figures = figures
looked-find = find
looked-history = history
looked-households = households
looked-members = members
looked-pending = pending
looked-promote-node = promote-node
looked-raise-level = raise-level
looked-record = record
looked-release-author = release-author
looked-remove-node = remove-node
looked-shown = shown
looked-sites = sites
looked-snapshot = snapshot
looked-transfer-leader = transfer-leader
looked-watch = watch
looked-work = work

purpose-adjudication = adjudication
purpose-correction = correction
purpose-inspection = inspection
purpose-issuance = issuance
purpose-maintenance = maintenance
purpose-registration = registration
purpose-residence = residence
purpose-statistics = statistics
purpose-subject = subject
purpose-unknown = unknown
purpose-verification = verification

raft-candidate = candidate
raft-follower = follower
raft-leader = leader
raft-learner = learner
raft-shutdown = shutdown

relation-child = child
relation-father = father
relation-legal-representative = legal-representative
relation-mother = mother
relation-represented-person = represented-person
relation-spouse = spouse

role-auditor = auditor
role-operator = operator
role-registrar = registrar
role-site = site
role-unknown = unknown

service-birth = birth
service-death = death

site-active = active
site-retired = retired

standing-confirmed = confirmed
standing-disputed = disputed
standing-held = held
standing-pending = pending
standing-rejected = rejected
standing-released = released

tier-central = central
tier-commune = commune
tier-district = district
tier-province = province

# Names of laws, and what stands around them, as the tables of forms and rules write them.

law-adoption = Law on Adoption
law-and = {" "}and{" "}
law-before = before{" "}
law-article = article
law-articles = articles
law-civil-code = Civil Code
law-civil-status = Law on Civil Status
law-decree = Decree
law-identification = Law on Identification
law-law = Law
law-marriage = Law on Marriage and Family
law-nationality = Law on Vietnamese Nationality
law-residence = Law on Residence
law-to = {" "}to{" "}

# What stands for a value in the help.

placeholder-address = ADDRESS
placeholder-after = AFTER
placeholder-age-max = AGE_MAX
placeholder-age-min = AGE_MIN
placeholder-archive = ARCHIVE
placeholder-born = BORN
placeholder-by = BY
placeholder-case = CASE
placeholder-count = COUNT
placeholder-create = CREATE
placeholder-day = DAY
placeholder-day-holiday = DAY=HOLIDAY
placeholder-days = DAYS
placeholder-dir = DIR
placeholder-edit = EDIT
placeholder-event = EVENT
placeholder-field = FIELD
placeholder-file = FILE
placeholder-format = FORMAT
placeholder-from = FROM
placeholder-grounds = GROUNDS
placeholder-group = GROUP
placeholder-household = HOUSEHOLD
placeholder-kind = KIND
placeholder-language = LANGUAGE
placeholder-mother = MOTHER
placeholder-name = NAME
placeholder-number = NUMBER
placeholder-on = ON
placeholder-output = OUTPUT
placeholder-person = PERSON
placeholder-public-key = PUBLIC_KEY
placeholder-purpose = PURPOSE
placeholder-record = RECORD
placeholder-record---field-value = RECORD | FIELD=VALUE
placeholder-request = REQUEST
placeholder-role-record---input-value = ROLE=RECORD | INPUT=VALUE
placeholder-seconds = SECONDS
placeholder-series = SERIES
placeholder-shard = SHARD
placeholder-show = SHOW
placeholder-site = SITE
placeholder-title = TITLE
placeholder-unit = UNIT
placeholder-units = UNITS
placeholder-until = UNTIL
placeholder-valid-from = VALID_FROM
placeholder-value = VALUE
placeholder-within = WITHIN
placeholder-year = YEAR

# What the help says of its own.

help-arguments = Arguments
help-choices = possible values:
help-command-here = <COMMAND>
help-commands = Commands
help-default = default:
help-options = Options
help-options-here = [OPTIONS]
help-options-of-all = Options of the verbs that ask a site, before or after the verb
help-usage = Usage:
