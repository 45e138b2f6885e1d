# Why something was not done, and what to do.

# What was made elsewhere and is in no book of phrases.
detail-untranslated = { $text }

# What became of a request.
error-outcome-unknown = it is not known whether the request was accepted: look at the site's status before doing it again ({ $text })
error-outcome-unknown-of = it is not known whether the request { $request } was accepted: send the same request to the same site again, it will be applied once ({ $text })
error-protocol = the node's answer is not understood ({ $what }): check that client and node are of compatible versions
error-stale = the record has changed since it was read ({ $fields }): look at it as it is now, and edit it anew if that still holds
error-stale-more = {" "}and { $count } more
error-unreachable = no node of the site could take the request, and nothing was accepted: try again, and check the link if that lasts ({ $text })
error-unreachable-by-fault = { $fault }. Nothing was accepted
error-unreachable-with-fault = { $fault }. No node of the site took the request, and nothing was accepted ({ $text })

# A refusal, by the reason that a node gives.
refused = { $detail }
refused-beyond-end = { $detail }
refused-bug = { $detail }
refused-damaged = { $detail }
refused-denied = { $detail }
refused-exists = { $detail }
refused-invalid = { $detail }
refused-level-too-low = { $detail }
refused-not-accepted = { $detail }
refused-not-found = { $detail }
refused-outcome-unknown = { $detail }
refused-overloaded = { $detail }
refused-precondition = { $detail }
refused-rule-broken = { $detail }
refused-stale = { $detail }

# A rule, with its law and its name.
rule-broken = { $name }: { $text } ({ $law })
rule-warns = { $name }: { $text } ({ $law }); if it is so, file it with grounds that say why

# Files, and the output.
failure-doubtful = { $what } is not imported, and nothing was sent:{ $problems }
failure-file = { $what }: { $error }
failure-output = the output cannot be written: { $error }
fault-of-file = { $file }: { $fault }
problem-at-line = line { $line }: { $reason }
problem-of-file = the file { $reason }

# What a command line lacks.
no-case = the request names no case: give --case with the reference of the file, or set DINHBA_CASE
no-identity = no identity is given: give --identity with the directory that holds ca.pem, cert.pem and key.pem, or set DINHBA_IDENTITY, or give --ca, --cert and --key
no-node = no node is named: give --node host:port, or set DINHBA_NODE
no-purpose = the request names no purpose: give --purpose (for example registration), or set DINHBA_PURPOSE
verb-asks-no-site = this verb asks no site: leave out --node, --identity, --purpose, --case and --timeout
change-is-written = a change is written field=value or field[element]=value; field= clears the field
edit-is-named-by = an edit is named by the first digits of its hash, as `history` shows them
event-without-form = that event has no form
field-is-written = a field is written as its name, or name[element] if it repeats
filled-in-how = what is filled in is written role=r-… or input=value
record-of-unknown-kind = record { $record } is of a kind that this version does not know
name-archive = name the directory of the archive
name-file-by-form = { $file }: name the file .ndjson or .csv, or give --format, so that its form is clear
name-request = name the request (q-…/1)
no-receipt = { $file } is no receipt: it has one line of hex digits
no-such-edit = this record has no such edit that may be { $standing }: `dinhba history { $record }` shows them
no-unit-known = no unit is known as { $unit }: write its code and a day (00001@2025-06-30), or its id (u-…)
not-asked =
    { $name } is not asked by this form
    { $asked }
nothing-changed = nothing is to be changed: add field=value
proves-nothing = { $file } proves nothing: { $why }
rejected-is-csv = --rejected { $file }: the rejected rows of this file are written as a table with commas, also those of a workbook: name it .csv
rejected-is-ndjson = --rejected { $file }: the rejected rows of this file are written as NDJSON: name it .ndjson
rejected-over-columns = --rejected names the file of --columns, or would be written over it: give it another name
rejected-over-imported = --rejected names the file that is imported, or would be written over it: give it another name
rejected-takes-a-file = --rejected takes the name of a file
say-record-first = say first which record is meant
say-which-edit = say which edit, by the first digits of its hash:{ $edits }
say-which-record = say which record: its id (r-…) stands first; give --create person to make a new one
say-whom-to-find = say whom to find: give --number, or --name together with --born
say-why = say why: --grounds
write-record-id = { $name }: write the record's id (r-…)

# Where in a request something is wrong.
place-subject = subject { $number }

# A wrong command line.
misuse-conflict = { $option } cannot be used with { $other }
misuse-help = For more information, try '--help'.
misuse-missing = these were not provided: { $options }
misuse-no-command = a command is needed
misuse-no-value = { $option } needs a value
misuse-suggested = perhaps { $suggested } is meant
misuse-too-many = { $option } does not take so many values
misuse-unknown-command = there is no command { $command }
misuse-unknown-option = there is no option { $option } here
misuse-usage = Usage: { $usage }
misuse-value = { $value } is no value of { $option }: { $why }
misuse-value-of = { $value } is no value of { $option }; choose one of: { $choices }
