# Why something was not done, and what to do.

# What was made elsewhere and is in no book of phrases.
detail-untranslated = (nguyên văn: { $text })

# What became of a request.
error-outcome-unknown = Chưa rõ yêu cầu đã được nhận hay chưa. Hãy xem tình trạng (`dinhba status`) trước khi làm lại. Chi tiết: { $text }
error-outcome-unknown-of =
    Chưa rõ yêu cầu { $request } đã được nhận hay chưa. Chi tiết: { $text }
    Cần làm: gửi lại đúng yêu cầu đó đến đúng nơi đó; dù gửi mấy lần cũng chỉ ghi một lần.
error-protocol = Không hiểu câu trả lời của máy chủ { $what }. Hãy kiểm tra chương trình và máy chủ có phiên bản phù hợp với nhau.
error-stale =
    Hồ sơ đã thay đổi sau khi đọc ({ $fields }); chưa có gì được ghi.
    Cần làm: xem lại hồ sơ hiện tại; nếu nội dung vẫn đúng thì ghi lại.
error-stale-more = {" "}và { $count } trường khác
error-unreachable =
    Không máy chủ nào của đơn vị nhận được yêu cầu; chưa có gì được ghi. Chi tiết: { $text }
    Cần làm: thử lại sau; nếu vẫn vậy thì kiểm tra đường truyền.
error-unreachable-by-fault = { $fault }. Chưa có gì được ghi.
error-unreachable-with-fault = { $fault }. Không máy chủ nào của đơn vị nhận yêu cầu; chưa có gì được ghi. Chi tiết: { $text }

# A refusal, by the reason that a node gives.
refused = Bị từ chối: { $detail }
refused-beyond-end = Vị trí này chưa có gì: { $detail }
refused-bug =
    Máy chủ gặp lỗi bên trong: { $detail }
    Cần làm: đừng ghi lại vội; xem lịch sử hồ sơ (`dinhba history`) và báo cho người quản trị.
refused-damaged =
    Dữ liệu lưu ở máy chủ này bị hỏng, không đọc được: { $detail }
    Cần làm: báo ngay cho người quản trị; đơn vị cấp trên vẫn giữ bản đầy đủ.
refused-denied =
    Không được phép; chưa có gì được ghi: { $detail }
    Cần làm: nhờ người có thẩm quyền (người thứ hai, đơn vị quản lý hồ sơ, hoặc cấp trên); làm lại y như cũ vẫn bị từ chối.
refused-exists =
    Đã có từ trước; chưa có gì được ghi thêm: { $detail }
    Cần làm: xem hồ sơ hoặc yêu cầu đã có, đừng ghi lần nữa.
refused-invalid =
    Nội dung chưa hợp lệ; chưa có gì được ghi: { $detail }
    Cần làm: sửa lại rồi gửi; gửi lại y như cũ vẫn bị từ chối.
refused-level-too-low =
    Hệ thống ở đây chưa được nâng đến mức cần thiết; chưa có gì được ghi: { $detail }
    Cần làm: báo người quản trị, chờ nâng mức rồi làm lại.
refused-not-accepted =
    Máy chủ này chưa nhận; chắc chắn chưa có gì được ghi: { $detail }
    Cần làm: thử lại sau ít phút, hoặc ở máy chủ khác của đơn vị.
refused-not-found =
    Không tìm thấy ở đây; chưa có gì được ghi: { $detail }
    Cần làm: kiểm tra lại mã; hoặc hỏi đơn vị đang quản lý hồ sơ, hoặc đơn vị cấp trên.
refused-outcome-unknown =
    Chưa rõ đã được ghi hay chưa: { $detail }
    Cần làm: gửi lại đúng yêu cầu đó đến đúng nơi đó.
refused-overloaded =
    Máy chủ đang có quá nhiều việc; chắc chắn chưa có gì được ghi: { $detail }
    Cần làm: chờ ít phút rồi thử lại.
refused-precondition =
    Lúc này chưa làm được; chưa có gì được ghi: { $detail }
    Cần làm: gỡ điều đang vướng rồi làm lại.
refused-rule-broken =
    Trái quy định; chưa có gì được ghi: { $detail }
    Cần làm: kiểm tra giấy tờ và hồ sơ, sửa chỗ sai rồi làm lại.
refused-stale =
    Hồ sơ đã thay đổi sau khi đọc; chưa có gì được ghi: { $detail }
    Cần làm: xem lại hồ sơ hiện tại rồi quyết định.

# A rule, with its law and its name.
rule-broken = { $text } ({ $law }; quy tắc { $name })
rule-warns = { $text } ({ $law }; quy tắc { $name }). Nếu đúng như vậy, ghi rõ căn cứ (--grounds) rồi gửi lại

# Files, and the output.
failure-doubtful = { $what } không được nhập, chưa gửi gì đi:{ $problems }
failure-file = { $what }: { $error }
failure-output = không ghi được kết quả ra: { $error }
fault-of-file = { $file }: { $fault }
problem-at-line = dòng { $line }: { $reason }
problem-of-file = tệp: { $reason }

# What a command line lacks.
no-case = Chưa ghi số hồ sơ vụ việc: thêm --case với số hồ sơ, hoặc đặt DINHBA_CASE.
no-identity = Chưa có chứng thư của người dùng: thêm --identity với thư mục có ca.pem, cert.pem và key.pem, hoặc đặt DINHBA_IDENTITY, hoặc ghi --ca, --cert và --key.
no-node = Chưa biết hỏi máy chủ nào: thêm --node máy:cổng, hoặc đặt DINHBA_NODE.
no-purpose = Chưa ghi mục đích: thêm --purpose (ví dụ `registration` là đăng ký), hoặc đặt DINHBA_PURPOSE.
verb-asks-no-site = Lệnh này không hỏi máy chủ nào: bỏ --node, --identity, --purpose, --case và --timeout.
change-is-written = Viết thay đổi là trường=giá trị hoặc trường[mục]=giá trị; trường= để trống là xóa.
edit-is-named-by = Gọi một lần ghi bằng những chữ số đầu của mã băm, như `dinhba history` cho thấy.
event-without-form = Sự kiện này không có tờ khai.
field-is-written = Viết trường bằng tên của nó, hoặc tên[mục] nếu trường có nhiều mục.
filled-in-how = Viết nội dung tờ khai là vai=r-… hoặc ô=giá trị.
record-of-unknown-kind = Hồ sơ { $record } thuộc loại mà phiên bản này chưa biết.
name-archive = Ghi tên thư mục của kho lưu trữ.
name-file-by-form = { $file }: đặt tên tệp là .ndjson hoặc .csv, hoặc ghi --format, để rõ dạng tệp.
name-request = Ghi mã yêu cầu (q-…/1).
no-receipt = { $file } không phải là giấy chứng nhận: giấy đó chỉ có một dòng chữ số hex.
no-such-edit = Hồ sơ này không có lần ghi nào có thể chuyển thành “{ $standing }” như vậy: xem `dinhba history { $record }`.
no-unit-known = Không có đơn vị nào là { $unit }: viết mã kèm ngày (00001@2025-06-30), hoặc mã riêng (u-…).
not-asked =
    Tờ khai này không hỏi { $name }
    { $asked }
nothing-changed = Chưa có gì để thay đổi: thêm trường=giá trị.
proves-nothing = { $file } không chứng minh được gì: { $why }
rejected-is-csv = --rejected { $file }: các dòng bị loại của tệp này được ghi thành bảng có dấu phẩy, kể cả từ bảng tính: đặt tên .csv.
rejected-is-ndjson = --rejected { $file }: các dòng bị loại của tệp này được ghi dạng NDJSON: đặt tên .ndjson.
rejected-over-columns = --rejected trỏ vào tệp của --columns hoặc sẽ ghi đè lên đó: đặt tên khác.
rejected-over-imported = --rejected trỏ vào tệp đang nhập hoặc sẽ ghi đè lên đó: đặt tên khác.
rejected-takes-a-file = --rejected cần tên của một tệp.
say-record-first = Trước hết ghi rõ hồ sơ nào.
say-which-edit = Ghi rõ lần ghi nào, bằng những chữ số đầu của mã băm:{ $edits }
say-which-record = Ghi rõ hồ sơ nào: mã hồ sơ (r-…) đứng đầu; muốn lập hồ sơ mới thì thêm `--create person`.
say-whom-to-find = Ghi rõ tìm ai: dùng --number, hoặc --name cùng với --born.
say-why = Ghi rõ căn cứ: --grounds.
write-record-id = { $name }: viết mã hồ sơ (r-…).

# Where in a request something is wrong.
place-subject = hồ sơ thứ { $number }

# A wrong command line.
misuse-conflict = { $option } không dùng chung được với { $other }
misuse-help = Xem thêm bằng '--help'.
misuse-missing = còn thiếu: { $options }
misuse-no-command = cần ghi một lệnh
misuse-no-value = { $option } cần có giá trị
misuse-suggested = có phải là { $suggested }?
misuse-too-many = { $option } không nhận nhiều giá trị như vậy
misuse-unknown-command = không có lệnh { $command }
misuse-unknown-option = ở đây không có tùy chọn { $option }
misuse-usage = Cách dùng: { $usage }
misuse-value = { $value } không dùng được cho { $option }: { $why }
misuse-value-of = { $value } không dùng được cho { $option }; chọn một trong: { $choices }
