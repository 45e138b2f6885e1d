# The help of the command line. In English it stands beside the verbs themselves; here a message is a verb, with those above it, and its
# attributes are its options by their names. What many verbs take stands in `options`.

program = Kho hồ sơ dân cư phân tán, có nhiều bản sao
help = In hướng dẫn này, hoặc hướng dẫn của một lệnh
exit-codes =
    Mã kết thúc:
      0  xong
      1  lỗi khác, ví dụ ổ đĩa đầy
      2  dùng sai, hoặc nội dung trái quy tắc; chưa có gì thay đổi
      3  không được phép: vai trò hoặc đơn vị của người gọi không đủ quyền
      4  ở đây không có hồ sơ, phân vùng hoặc nhóm đó
      5  cũ: người khác đã ghi trước, hoặc hồ sơ đã có
      6  không liên lạc được với máy chủ nào; chưa có gì được ghi
      7  chưa rõ kết quả: làm lại y như vậy, cùng mã yêu cầu
      8  đã nhập tệp, trừ một số dòng
      9  status: máy chủ không ổn; lý do ở dòng đầu
     10  held: chưa có nơi nào ở cấp đó giữ
    130  bị ngắt; những gì đã làm đến lúc đó có nói rõ

# What many verbs take.
options = Tùy chọn chung
    .after = Tiếp từ chỗ trang trước dừng, như trang đó đã ghi
    .ca = Chứng thư của cơ quan cấp, dạng PEM
    .case = Số hồ sơ vụ việc của yêu cầu này [biến môi trường: DINHBA_CASE]
    .cert = Chứng thư của người gọi, dạng PEM
    .grounds = Căn cứ
    .help = In hướng dẫn
    .identity = Thư mục có ca.pem, cert.pem và key.pem [biến môi trường: DINHBA_IDENTITY]
    .json = Ghi JSON cho chương trình khác
    .key = Khóa riêng của người gọi, dạng PEM
    .lang = Ngôn ngữ của thông báo cho người dùng [biến môi trường: DINHBA_LANG, nếu không thì LC_ALL, LC_MESSAGES hoặc LANG]
    .nodes = Một máy chủ của đơn vị, máy:cổng hoặc tên@máy:cổng; ghi nhiều lần cho nhiều máy chủ của cùng đơn vị [biến môi trường: DINHBA_NODE, cách nhau bằng dấu phẩy]
    .purpose = Mục đích: registration (đăng ký), correction (cải chính), verification (xác minh), residence (cư trú), issuance (cấp giấy tờ), adjudication (giải quyết mâu thuẫn), subject (yêu cầu của công dân), inspection (thanh tra), statistics (thống kê) hoặc maintenance (vận hành) [biến môi trường: DINHBA_PURPOSE]
    .request = Yêu cầu cần làm lại, khi trước đó chưa rõ kết quả (q-…/1)
    .shard = Phân vùng (h-…); không ghi thì là phân vùng của đơn vị người gọi
    .timeout = Cố gắng trong bao nhiêu giây; lệnh nhận luồng thì tiếp tục chừng nào còn có trả lời. Không ghi thì 15, và 60 cho các lệnh của `site`
    .unsafe-loopback = Để thử: không bảo vệ, chỉ trên máy này, với danh tính này (spiffe://dinhba/person/…)
    .version = In phiên bản

# Records.
status = Tình trạng của đơn vị theo một máy chủ: máy đó có ổn không, các phân vùng, nhóm, nút và đường truyền
get = Xem một hồ sơ
    .record = Hồ sơ (r-…)
    .in-law-on = Theo pháp lý vào ngày đó (31/01/2026), dù được ghi lúc nào
    .known-on = Theo những gì đã biết đến hết ngày đó, hoặc đến một thời điểm (2026-01-31T12:00:00Z)
find = Tìm hồ sơ theo số, hoặc theo họ tên (hay một phần) cùng với ngày sinh
    .number = Số định danh cá nhân (mười hai số), hoặc số chứng minh nhân dân cũ (chín số)
    .name = Họ tên theo thứ tự và cách viết nào cũng được, hoặc vài chữ trong đó có tên: lan, thị lan
    .born = Ngày, tháng hoặc năm sinh (08/03/1990, 03/1990, 1990), hoặc trong năm năm (1988..1992)
    .unit = Chỉ người thuộc đơn vị đó: mã, mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…)
    .mother = Chỉ người có mẹ tên như vậy, hoặc có phần tên đó
members = Thành viên của một hộ
    .household = Hộ (r-…)
households = Các hộ của một người: hộ đang ở, và các hộ người đó làm chủ
    .person = Người (r-…)
dossiers = Hồ sơ liên thông của một người: dịch vụ đã yêu cầu, và đã làm đến đâu
    .person = Người (r-…)
work = Việc cần làm, của ai, đến khi nào; việc đến hạn trước đứng trước
    .unit = Danh sách của ai: mã đơn vị, mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…); không ghi thì của đơn vị người gọi
    .all = Cả những việc chưa đến lượt đơn vị đó: tất cả việc của đơn vị và các đơn vị cấp dưới
    .overdue = Chỉ những việc lẽ ra phải xong trước hôm nay
    .kind = Chỉ một loại: conflict (mâu thuẫn), rule (trái quy tắc), number-twice (trùng số), second-person (chờ người thứ hai), number-pending (chờ số), step (bước hồ sơ), papers (thiếu giấy tờ), step-failed (bước không thành)
edit = Sửa một hồ sơ, hoặc lập hồ sơ mới với --create
    .words = Hồ sơ (r-…), trừ khi có --create; sau đó trường=giá trị hoặc trường[mục]=giá trị, ít nhất một lần
    .create = Lập hồ sơ: `person` (người), `household` (hộ) hoặc `site`
    .valid-from = Có hiệu lực pháp lý từ ngày; không ghi thì từ hôm nay
    .shard = Phân vùng của hồ sơ mới (h-…); không ghi thì là phân vùng của đơn vị người gọi
rules = Các quy tắc mà hồ sơ và sự kiện phải theo, kèm điều luật
events = Khai sinh, khai tử, kết hôn, cư trú, thẻ: những gì ghi được, mỗi sự kiện có lệnh riêng (`dinhba birth --help`)
    .event = Sự kiện muốn xem tờ khai; không ghi thì liệt kê tất cả
filed = Một sự kiện
    .words = Các hồ sơ liên quan (vai=r-…), sau đó nội dung tờ khai (ô=giá trị); xem danh sách bên dưới
    .grounds = Quyết định hoặc bản án làm căn cứ: số, ngày, nơi ban hành
    .shard = Phân vùng (h-…); không ghi thì là phân vùng của các hồ sơ, hoặc của đơn vị người gọi
    .no-questions = Không hỏi gì trên màn hình
history = Mọi lần ghi của một hồ sơ, và đã lên đến cấp nào
    .record = Hồ sơ (r-…)
conflicts = Các mâu thuẫn chưa giải quyết, từng trang, cũ trước
    .shard = Chỉ phân vùng này (h-…)
resolve = Giải quyết mâu thuẫn: giá trị này thay mọi giá trị của trường
    .record = Hồ sơ (r-…)
    .field = Trường, hoặc `trường[mục]`
    .value = Giá trị đúng; để trống là xóa trường
    .grounds = Vì sao giá trị này đúng
pending = Các lần ghi chờ người thứ hai, cũ trước
    .record = Chỉ hồ sơ này (r-…)
    .shard = Chỉ phân vùng này (h-…)
confirm = Với tư cách người thứ hai, xác nhận một lần ghi đang chờ
    .record = Hồ sơ (r-…)
    .edit = Lần ghi, bằng mã băm hoặc những chữ số đầu, như `pending` và `history` cho thấy; không ghi thì là lần ghi duy nhất có thể
    .grounds = Căn cứ; bắt buộc khi bác bỏ và khi giữ lại
    .request = Yêu cầu cần làm lại, khi trước đó chưa rõ kết quả (q-…/1); với cùng lần ghi
reject = Bác bỏ một lần ghi đang chờ người thứ hai, hoặc đang bị giữ: giá trị bị thay có lại như cũ
    .record = Hồ sơ (r-…)
    .edit = Lần ghi, bằng mã băm hoặc những chữ số đầu, như `pending` và `history` cho thấy; không ghi thì là lần ghi duy nhất có thể
    .grounds = Căn cứ; bắt buộc khi bác bỏ và khi giữ lại
    .request = Yêu cầu cần làm lại, khi trước đó chưa rõ kết quả (q-…/1); với cùng lần ghi
hold = Đưa một lần ghi ra khỏi hồ sơ cho đến khi bỏ giữ: thẩm quyền của người ghi còn nghi vấn
    .record = Hồ sơ (r-…)
    .edit = Lần ghi, bằng mã băm hoặc những chữ số đầu, như `pending` và `history` cho thấy; không ghi thì là lần ghi duy nhất có thể
    .grounds = Căn cứ; bắt buộc khi bác bỏ và khi giữ lại
    .request = Yêu cầu cần làm lại, khi trước đó chưa rõ kết quả (q-…/1); với cùng lần ghi
release = Đưa một lần ghi đang bị giữ trở lại hồ sơ
    .record = Hồ sơ (r-…)
    .edit = Lần ghi, bằng mã băm hoặc những chữ số đầu, như `pending` và `history` cho thấy; không ghi thì là lần ghi duy nhất có thể
    .grounds = Căn cứ; bắt buộc khi bác bỏ và khi giữ lại
    .request = Yêu cầu cần làm lại, khi trước đó chưa rõ kết quả (q-…/1); với cùng lần ghi
watch = Theo dõi các lần ghi khi chúng đến
    .from = Vị trí đầu tiên muốn xem; 0 là những gì đến từ nay
    .count = Dừng sau bấy nhiêu lần ghi

# Files.
import = Nhập một tệp hồ sơ; chạy lại sau khi đứt thì chỉ ghi những gì chưa có
    .file = Tệp: bảng (.csv, .tsv, .xlsx) hoặc NDJSON; - là đầu vào chuẩn
    .check = Nói những gì nói được mà không cần máy chủ, và không gửi gì
    .rejected = Ghi các dòng bị loại, kèm lý do, ra một tệp để sửa và nhập riêng
    .columns = Bảng có hai cột `column` và `field`, cho biết các cột của tệp là gì; `-` là bỏ qua một cột
    .ignore-column = Bỏ qua cột có tiêu đề đó; có thể ghi nhiều lần
    .sheet = Trang của bảng tính, nếu có nhiều trang
    .whole = Dòng cuối của tệp không có dấu xuống dòng nhưng vẫn đủ
    .list = Tên của danh sách mà mã của các dòng thuộc về, nếu danh sách khác dùng cùng mã; ghi mỗi lần nhập
    .allow-known-numbers = Nhận cả dòng có số định danh mà hồ sơ khác ở đây đã có, kèm cảnh báo từng dòng
    .shard = Phân vùng của mọi dòng (h-…), dù home ghi gì
    .unit = Đơn vị của mọi dòng, dù home ghi gì: mã (00001), mã kèm ngày (00001@2025-06-30) hoặc mã riêng (u-…)
    .quiet = Không hiện tiến độ
about-files =
    Dòng đầu của bảng là tên các cột: các trường của `dinhba fields`, bằng tên hoặc nhãn tiếng Việt, cùng với `kind`
    (`person` là người, `household` là hộ), `id` và `home` (00001@2025-06-30). Tệp có cấu trúc đáng ngờ thì không nhận gì:
    dấu ngoặc kép không đóng, dòng thừa hay thiếu ô so với tiêu đề, cột không rõ, dòng cuối không kết thúc.

    Dòng có `id` riêng (số thứ tự trong danh sách) chỉ được đăng ký một lần; dòng sau có cùng id mà giá trị khác thì bị từ
    chối. Dòng không có id được nhận ra bằng nội dung: dòng y như cũ là đã có sẵn, dòng đã sửa là người khác. Id có @ ở đầu
    là tên dùng trong tệp để dòng khác dẫn đến (household = @h1); còn @r-… của bản trích xuất là mã riêng ở mọi nơi, và hồ
    sơ đã có ở đây thì không đăng ký lại.

    Sau khi đứt hoặc Ctrl-C, chạy lại đúng lệnh nhập đó: chỉ ghi những gì chưa có.
units = Xem mã riêng, tên và vị trí của các đơn vị, theo mã
    .units = Các mã, kèm ngày nếu không phải đơn vị hiện nay (00001@2025-06-30), hoặc mã riêng (u-…)
fields = Liệt kê các trường của hồ sơ và cách viết giá trị
    .kind = `person`, `household`, `site`, `unit`, `block` hoặc `target`; không ghi thì tất cả
export = Ghi mọi hồ sơ của một đơn vị ra tệp mà import đọc được; nếu đứt thì làm lại từ đầu
    .shard = Phân vùng (h-…); không ghi thì là phân vùng của đơn vị người gọi
    .unit = Đơn vị: mã (00001), mã kèm ngày (00001@2025-06-30) hoặc mã riêng (u-…)
    .output = Tệp (.ndjson hoặc .csv), chỉ có tên khi đã đủ; không ghi, hoặc ghi -, là đầu ra chuẩn
    .format = ndjson hoặc csv; không ghi thì theo tên tệp
receipt = Giấy chứng nhận cho người khác về một yêu cầu đã được ghi, có chữ ký của máy chủ này
    .request = Yêu cầu đã được ghi (q-…/1), như đã in lúc đó
    .shard = Phân vùng đã gửi đến (h-…); không ghi thì là phân vùng của đơn vị người gọi
    .show = Các trường cho xem giá trị mới, cách nhau bằng dấu phẩy; căn cứ (grounds) cũng là một. Các trường khác chỉ chứng minh là có
    .output = Tệp; không ghi thì là đầu ra chuẩn
receipt-verify = Kiểm tra giấy chứng nhận bằng khóa công khai của máy chủ đã ký; không cần kết nối
    .file = Tệp
    .site = Máy chủ đã ký (s-…)
    .public-key = Khóa của máy chủ: 64 chữ số hex, như `dinhba site list` cho thấy
roll = Ai cư trú ở một xã vào một ngày, theo tuổi, dạng CSV: danh sách cử tri
    .on = Ngày (24/05/2026)
    .age-min = Tuổi tròn vào ngày đó, ít nhất: 18 cho bầu cử
    .age-max = Và nhiều nhất
    .shard = Phân vùng (h-…); không ghi thì là phân vùng của đơn vị người gọi
    .unit = Đơn vị: mã (00001), mã kèm ngày (00001@2025-06-30) hoặc mã riêng (u-…)
    .output = Tệp (.csv), chỉ có tên khi đã đủ; không ghi thì là đầu ra chuẩn
held = Máy chủ nào đang giữ một yêu cầu đã được ghi, theo lời có chữ ký của họ; chờ nếu muốn
    .request = Yêu cầu đã được ghi (q-…/1), như đã in lúc đó
    .shard = Phân vùng đã gửi đến (h-…); không ghi thì là phân vùng của đơn vị người gọi
    .until = Chờ đến khi một máy chủ cấp này giữ: district (huyện), province (tỉnh) hoặc central (trung ương)
    .within = Chờ tối đa bao nhiêu giây

# Figures.
figures = Bao nhiêu khai sinh, khai tử, kết hôn và sự kiện khác, theo đơn vị, ngày hoặc tháng
    .unit = Một đơn vị và mọi đơn vị cấp dưới: mã, mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…); không ghi thì tất cả những gì được xem
    .from = Ngày đầu tiên nơi ghi nhận được; không ghi thì 30 ngày trước ngày cuối
    .to = Ngày cuối; không ghi thì hôm nay
    .by = Mỗi dòng là một đơn vị, một ngày, một tháng, hay tất cả
    .stocks = Thay vào đó: bao nhiêu thẻ, tài khoản và bước hồ sơ ở trạng thái nào, bao nhiêu bước quá hạn; bước đã giải quyết thì tính trong những ngày này
    .targets = Thay vào đó: các chỉ tiêu đạt đến đâu, dự báo, và ai đang chậm
    .csv = Ghi CSV
quality = Hồ sơ đúng, đủ, sạch, sống đến đâu, theo xã
    .unit = Một đơn vị và mọi đơn vị cấp dưới: mã, mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…); không ghi thì tất cả những gì được xem
target = Chỉ tiêu: một đơn vị phải đạt bao nhiêu sự kiện đến một ngày
target-list = Các chỉ tiêu liên quan đến một đơn vị: của chính nó, của cấp dưới và của cấp trên
    .unit = Đơn vị: mã, mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…); không ghi thì đơn vị của anh/chị, hoặc của máy chủ nếu ở cấp dưới
    .event = Chỉ sự kiện này
    .since = Cả chỉ tiêu đã kết thúc, nếu không trước ngày này; không ghi thì ba mươi ngày trước
target-set = Giao chỉ tiêu cho một đơn vị thuộc đơn vị mình: mọi máy chủ cấp dưới và cấp trên đều được biết
    .unit = Đơn vị, bằng mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…)
    .event = Sự kiện được đếm, như `dinhba events` liệt kê
    .count = Phải đạt bao nhiêu
    .from = Ngày đầu
    .until = Ngày cuối
    .grounds = Kế hoạch hoặc quyết định làm căn cứ
    .by = Đơn vị giao; không ghi thì đơn vị của anh/chị
target-change = Sửa số lượng hoặc ngày cuối của một chỉ tiêu
    .record = Chỉ tiêu (r-…)
    .count = Phải đạt bao nhiêu
    .until = Ngày cuối
    .grounds = Kế hoạch hoặc quyết định làm căn cứ
target-withdraw = Rút một chỉ tiêu: không tính nữa, lịch sử vẫn còn
    .record = Chỉ tiêu (r-…)
    .grounds = Kế hoạch hoặc quyết định làm căn cứ
numbers = Sổ số định danh cá nhân: số của mỗi dải đang ở đâu, và mỗi xã còn đủ dùng bao lâu
    .unit = Một đơn vị và mọi đơn vị cấp dưới: mã, mã kèm ngày (02683@2025-06-30) hoặc mã riêng (u-…); không ghi thì đơn vị của máy chủ
    .series = Một dải: nơi đăng ký (3 số), thế kỷ và giới tính (1), năm sinh (2), như các số của dải bắt đầu (010126); không ghi thì mọi dải đã giao
    .number = Một số đã đi đâu (mười hai số); của ai thì `find --number` cho biết
access-log = Ai đã xem gì, dành cho thanh tra
    .group = Nhóm (g-…); không ghi thì mọi nhóm của máy chủ
    .from = Dòng đầu tiên muốn xem
holidays = Công bố, tại trung ương, các ngày nghỉ lễ: hạn được tính theo đó
holidays-list = Những gì đã công bố; máy chủ nào cũng trả lời
holidays-set = Các ngày nghỉ của một năm, đủ tất cả: mọi máy chủ trong nước tính hạn theo đó
    .year = Năm
    .days = Các ngày nghỉ kèm tên ngày lễ: 2027-01-01=new_year, 2027-02-05..2027-02-09=tet; và các ngày cuối tuần đi làm bù: 2027-01-09=worked
    .grounds = Quyết định làm căn cứ

# For operators.
backup = Thêm vào kho lưu trữ những gì máy chủ đang chạy đã nhận từ lần sao lưu trước, có niêm phong
    .archive = Thư mục của kho lưu trữ: của một máy chủ, không có gì khác trong đó
backup-verify = Đọc từng byte của kho và liệt kê các bản sao lưu, hoặc nêu tệp và chỗ hỏng đầu tiên; không cần kết nối
    .archive = Thư mục của kho lưu trữ
generate = Bịa ra một dân số để thử; không cần kết nối
    .persons = Số người
    .seed = Cùng một số thì ra cùng những người đó
    .units = Các xã, bằng mã kèm ngày (00001@2025-06-30); chỉ có mã là đơn vị hiện nay
    .output = Tệp (.ndjson hoặc .csv); không ghi, hoặc ghi -, là đầu ra chuẩn
    .format = ndjson hoặc csv; không ghi thì theo tên tệp
site = Trông coi máy chủ của đơn vị
site-add-node = Cho một nút đã khởi động học mọi nhóm: nhận tất cả, chưa được bầu
site-promote-node = Cho một nút học được bầu
site-remove-node = Bỏ hẳn một nút; mã của nó không bao giờ dùng lại
site-transfer-leader = Chuyển quyền dẫn một nhóm cho nút bầu khác
site-snapshot = Chụp ngay mọi nhóm
site-raise-level = Nâng mức tính năng của mọi nhóm lên một
site-list = Danh bạ máy chủ của cả nước, theo máy chủ được hỏi
site-add-child = Thêm một máy chủ dưới một máy chủ khác: mọi máy chủ trên đường đến đó, và mọi cấp dưới của nơi được hỏi, đều được biết
site-rekey = Cho máy chủ một khóa khác; những gì đã ký bằng khóa cũ vẫn còn giá trị
site-revoke = Thu khóa của một máy chủ: những gì chỉ ký bằng khóa đó không được nhận nữa, kể cả đã cũ
site-move = Nối một máy chủ vào dưới máy chủ khác
site-reach = Nói địa chỉ các nút của một máy chủ, cho những nơi sẽ ở dưới nó
site-retire = Cho một máy chủ ngừng: không phục vụ đơn vị nữa, những gì đã ghi vẫn còn
site-release-author = Nhận lại các lần ghi của một nguồn đang tạm giữ, từ nơi bên cạnh có chúng
unit = Công bố, tại trung ương, các đơn vị hành chính ngoài những đơn vị có sẵn
unit-list = Những gì đã công bố về đơn vị, ngoài những đơn vị có sẵn; máy chủ nào cũng trả lời
unit-add = Có đơn vị mới: mọi máy chủ trong nước được biết, và có thể phục vụ đơn vị đó
unit-rename = Một đơn vị đổi tên
unit-end = Một đơn vị chấm dứt: từ hôm sau mã của nó có thể chỉ đơn vị khác

# Of the node's program.
node = Chạy một nút cho đến SIGTERM hoặc Ctrl-C; SIGHUP không có tác dụng
restore = Thành lập lại một máy chủ từ kho sao lưu, vào thư mục dữ liệu trống
demo = Chạy cả một nước tám máy chủ trên máy này, và cho thấy không mất gì
pki = Tạo khóa và chứng thư
pki-dev = Cơ quan cấp chứng thư để thử: dùng trên một máy tính, không bao giờ cho dữ liệu thật
pki-dev-create = Tạo cơ quan cấp chứng thư
pki-dev-node = Tạo chứng thư của một nút
pki-dev-person = Tạo chứng thư của một người
pki-dev-site = Tạo khóa ký và các bí mật của một máy chủ
completions = Ghi những gì bộ lệnh cần để hoàn thành từ của chương trình này: `dinhba completions bash > ...`
