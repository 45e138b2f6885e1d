# What verbs say of what they did and found.

# An edit or an event that was accepted.
accepted = đã ghi nhận: { $records }
accepted-before = đã ghi nhận (từ lần gửi trước): { $records }
accepted-pending = chờ xác nhận  đã có hiệu lực, và cần người thứ hai xác nhận: `dinhba pending`, `dinhba confirm`
accepted-receipt = biên nhận  { $first } của { $shard }, { $count } lần ghi, mã băm { $hash }
accepted-request = mã yêu cầu  { $request }
no-stocks = Chưa có thẻ, tài khoản hay hồ sơ nào.
registered = { $label }: đã đăng ký
number-given-later = Số định danh cá nhân: chưa có, sẽ tự được cấp sau

# What a form asks.
form-about =
    { $label }
    { $law }
form-asked = Tờ khai hỏi:
form-corrects = trường=…, trường[mục]=…  giá trị mới của hồ sơ ghi ngay trước đó; để trống là xóa
form-input = { $name }=…  { $label }{ $of } (viết như { $value } trong `dinhba fields`)
form-input-if-known = { $name }=…  { $label }{ $of }, nếu biết (viết như { $value } trong `dinhba fields`)
form-input-of = {" "}({ $label } ghi ngay trước đó)
form-needs-grounds = --grounds …  quyết định hoặc bản án làm căn cứ
form-role = { $role }=r-…  { $label }
form-role-made = ({ $role }: lập hồ sơ mới, { $label })
form-role-perhaps = { $role }=r-…  { $label }, nếu có hồ sơ ở đây
form-role-times = { $role }=r-…  { $label }, từ { $least } đến { $most } người
form-which-card = element=…  thẻ nào, nếu có nhiều thẻ: mã của thẻ trong hồ sơ

# Records and their history.
access-denied = bị từ chối
because = căn cứ: { $grounds }
broken-rule = trái quy tắc: { $rule }
change-cleared = { $field }: đã xóa
disputed = còn mâu thuẫn
on-a-branch = { $what } (trên một nhánh)
set-aside = để riêng: { $why }
stocks-by = --by: số lượng theo trạng thái chỉ được tính theo `unit` (từng đơn vị) hoặc `all` (gộp tất cả)
value-disputed = còn mâu thuẫn, nhận lúc { $at }
value-pending = chờ người thứ hai xác nhận

# Tables and pages.
no-room = (không đủ chỗ cho: { $columns })
or-ask-for-fewer = , hoặc thu hẹp bằng --unit, --mother hay ngày sinh rõ hơn ở --born
there-is-more = Còn nữa: làm lại lệnh trên và thêm --after { $next }
there-may-be-more = Có thể còn nữa: làm lại lệnh trên và thêm --after { $next }
no-conflicts = Không có mâu thuẫn nào chưa giải quyết.
no-members = Không ai khai thuộc hộ này.
none-known = Ở đây chưa biết có gì.
nobody-found = Không tìm thấy ai ở đây.
nothing-pending = Không có gì chờ người thứ hai xác nhận.
to-be-said = Sẽ chuyển thành “{ $standing }”: { $edit }

# Work.
due-late = { $due }, quá hạn { $late } ngày
holidays-not-said = Chưa công bố ngày nghỉ lễ của một năm đến { $year }: các hạn có dấu ? có thể thay đổi (`dinhba holidays`).
nothing-of-that-kind-to-do = Không có việc nào loại này phải làm tại { $unit }.
nothing-to-do = Không có việc nào phải làm tại { $unit }.
number-comes-by-itself = tự có, khi liên lạc được với đơn vị cấp trên
value-to-write = GIÁ_TRỊ

# Figures, targets and quality.
all-units = tất cả
days-early = sớm { $days } ngày
days-late = trễ { $days } ngày
days-left = , còn { $days } ngày
live-behind = { $count } lần ghi chưa chuyển lên; liên lạc lần cuối { $since }
live-in-step = đồng bộ, { $since }
never = chưa bao giờ
no-targets = Chưa giao chỉ tiêu nào.
nothing-received = Không nhận được gì từ { $from } đến { $to }.
on-the-last-day = đúng ngày cuối
target-expected = với đà này đạt ngày { $day }, { $early }
target-head = { $label } ({ $event }): { $unit }, { $count } từ { $first } đến { $last }{ $left }
target-never = với đà này không đạt
target-not-begun = chưa bắt đầu
target-reached = đã đạt ngày { $day }, { $early }
the-centre = (trung ương)

# Personal numbers.
adds-up = khớp
does-not-add-up = KHÔNG KHỚP
number-assigned = đã dùng ở đó: đã cấp, hoặc đã ghi trong hồ sơ, có thể đã hủy sau đó
number-free = chưa giao cho ai
number-grant = { $by } giao { $count } số, từ { $first }, cho { $to } ({ $site })
number-left = đã giao, chưa cấp cho ai
number-on-the-way = ở đơn vị có thể giao tiếp xuống dưới
number-outside = có trong một hồ sơ ở đây, nhưng không thuộc dải số nào của nơi này
number-unknown = ở đây không giao cho ai: hỏi đơn vị cấp trên
number-void = không bao giờ cấp cho ai: { $why }
numbers-last = { $unit }: số còn lại đủ dùng { $days } ngày nữa; đơn vị cấp trên giao thêm khi có đường truyền
series-does-not-add-up = dải { $series }: có số được giao hai lần hoặc nằm ngoài mọi dải: một đơn vị đã giao số từ bản dữ liệu cũ, hoặc khóa của đơn vị bị đánh cắp

# Who holds a request; receipts.
held-now = ngay lúc này, theo ổ đĩa của chính nơi đó
holds-it = có
no-site-holds-it = Chưa có máy chủ cấp { $tier } nào có yêu cầu này.
re-establishing = đang xác lập lại
receipt-by = {"  "}người ghi { $subject } ({ $role }) lúc { $at }, mục đích { $purpose }, hồ sơ { $case }
receipt-edit = {"  "}{ $kind } { $record }, lần ghi { $number } của máy chủ { $site } cho phân vùng { $shard }
receipt-holds = Máy chủ có khóa này đã ký. Nội dung còn hiệu lực hay không thì xem hồ sơ.
receipt-made = { $file } chứng nhận { $count } lần ghi
receipt-withheld = {"  "}và { $count } thay đổi không cho xem

# Files.
already-there = đã có sẵn: dòng { $lines }
already-there-and-more = đã có sẵn: dòng { $lines } và các dòng khác
code-of-two-units = { $code } được hiểu là đơn vị hiện nay, { $today }; nếu muốn nói đơn vị mang mã này trước khi sắp xếp, { $before }, thì viết { $written }
columns-taken-for = Các cột được hiểu là: { $columns }
exported = { $count } hồ sơ; thay đổi từ nay về sau: { $watch }
fields-left-out = { $count } trường của phiên bản mới hơn bị bỏ ra: hãy dùng phiên bản mới hơn
ids-are-numbers = Mã của { $count } dòng là dạng số trong bảng tính: các số 0 ở đầu không có, dù bảng có hiện ra; dòng như vậy sẽ bị đăng ký lần thứ hai từ một tệp có các số 0 đó (007, không phải 7)
import-checked = { $rows } dòng: { $good } dòng có thể gửi, { $bad } dòng sai; chưa gửi gì đi
imported = { $rows } dòng: { $accepted } đã ghi nhận, { $there } đã có sẵn, { $refused } bị từ chối, { $bad } sai
imported-unanswered = , { $count } chưa có trả lời
interrupted = bị ngắt giữa chừng: { $again }
invented-records = { $count } hồ sơ bịa ra
mend-rejected-rows = Hãy sửa các dòng bị loại rồi nhập lại tệp: dòng đã có thì giữ nguyên; --rejected TỆP ghi các dòng đó ra một tệp riêng
rejected-rows-in = Các dòng bị loại nằm trong { $file }: sửa ở đó rồi nhập tệp ấy
rejected-rows-unwritten = Không ghi ra được các dòng bị loại: { $failure }; { $again }
roll-summary = { $count } người, trong đó { $doubtful } người chưa chắc: có ngày không rõ đến ngày
rows-without-id = { $count } người không có mã riêng lẫn số định danh: chỉ sửa dòng như vậy trước khi đăng ký, vì sửa sau thì sẽ thành đăng ký lần thứ hai; khi đó hãy sửa hồ sơ bằng edit
the-standard-input = đầu vào chuẩn
values-left-out = { $count } giá trị của các trường còn mâu thuẫn bị bỏ ra: chỉ ghi giá trị nhận sau cùng

# How values are written.
written-codes = { $some } | … (tất cả { $count }; danh sách đầy đủ: --json)
written-country = VN, hoặc tên nước
written-day = 02/03/1975 (hoặc 1975-03-02), 03/1975, 1975; có thể là ngày sắp tới
written-day-past = 02/03/1975 (hoặc 1975-03-02), 03/1975, 1975; không phải ngày sắp tới
written-digits = { $count } chữ số
written-digits-between = từ { $min } đến { $max } chữ số
written-email = địa chỉ thư điện tử
written-flag = có | không
written-hex = 64 chữ số hex
written-letters = chữ cái (mỗi từ một loại chữ), tối đa { $count } ký tự
written-phone = số điện thoại, 8 đến 15 chữ số
written-record = r-… của { $kind }
written-slashes = { $names }; mỗi phần là { $each }
written-text = chữ, tối đa { $count } ký tự
written-unit = mã@ngày: 02683@2025-06-30

# The site, its links, holidays and units.
access-log-differs = nhật ký truy cập: { $site } từng nói { $group } có { $count } dòng, rồi { $what } ({ $said } lúc { $at }): hãy để thanh tra xem máy chủ đó
author-parked = tạm giữ: { $author } của { $site } trong { $shard }: { $reason }; nhận lại bằng `site release-author { $shard } { $author }`
author-released = { $author } được nhận lại trong { $shard }: các lần ghi sẽ đến ở lần liên lạc tới
counts = có
feature-level = mức tính năng { $level }
group-not-well = không ổn: { $group }: { $why }
level-not-said = chưa nói
log-named-twice = đặt thêm cho nó một tên
log-said-fewer = sau đó nói ít hơn
log-said-others = sau đó nói khác
no-group-yet = chưa có
no-holidays-said = Chưa công bố ngày nghỉ nào: các hạn được tính theo những ngày nghỉ năm nào cũng có, và có thể thay đổi.
no-leader = chưa có
node-asked = đã hỏi { $node }, phiên bản { $version }, biết đến mức { $level }
node-is-not-well = KHÔNG ỔN: { $node }: { $why }
node-is-well = { $node } hoạt động tốt
place-file =
    tệp vị trí cho các nút của nó:
    { $file }
said-at-founding = khi thành lập
shard-to-all-below = { $unit } (cho mọi cấp dưới)
step-behind = chưa kịp
step-differs = SAI KHÁC
step-in-step = đồng bộ
step-top = cao nhất
step-unknown = chưa rõ

# Backups.
archive-is-whole = từng byte vẫn đúng như khi ghi; còn mở được hay không thì chỉ biết khi phục hồi
backup-goes-on = lần sao lưu trước bị đứt giữa chừng; nay làm tiếp
backup-taken = { $file }: { $added } lần ghi và { $bytes } byte, tính đến { $until }
