# Words of closed lists: what programs call things, and people. A key is the list and the word.

aside-flood = ghi quá nhiều vào một hồ sơ
aside-held = bị giữ lại
aside-kind = loại chưa biết
aside-level = mức chưa hỗ trợ
aside-rejected = bị bác bỏ
aside-twin = ghi trùng
aside-value = giá trị chưa biết
aside-void = bị loại

edit-change = thay đổi
edit-confirmation = xác nhận
edit-decision = quyết định
edit-grant = giao dải số
edit-hold = giữ lại
edit-move = chuyển hồ sơ
edit-proposal = đề nghị
edit-reject = bác bỏ
edit-release = bỏ giữ
edit-unknown = chưa biết

flag-no = không
flag-yes = có

kind-block = dải số
kind-calendar = lịch nghỉ
kind-dossier = hồ sơ liên thông
kind-household = hộ gia đình
kind-person = công dân
kind-site = máy chủ đơn vị
kind-target = chỉ tiêu
kind-unit = đơn vị hành chính
kind-unknown = loại chưa biết

link-connected = đã nối
link-down = xuống
link-up = lên
link-waiting = đang chờ

looked-access-log = nhật ký truy cập
looked-add-node = thêm nút
looked-backup = sao lưu
looked-conflicts = mâu thuẫn
looked-dossiers = hồ sơ liên thông
looked-export = trích xuất
looked-figures = số liệu
looked-find = tra cứu
looked-history = lịch sử
looked-households = các hộ của một người
looked-members = thành viên hộ
looked-pending = việc chờ xác nhận
looked-promote-node = cho nút bầu
looked-raise-level = nâng mức
looked-record = hồ sơ
looked-release-author = bỏ giữ nguồn ghi
looked-remove-node = bỏ nút
looked-shown = hồ sơ được hiển thị
looked-sites = danh bạ máy chủ
looked-snapshot = ảnh chụp
looked-transfer-leader = chuyển nút dẫn
looked-watch = theo dõi
looked-work = danh sách việc

purpose-adjudication = giải quyết mâu thuẫn
purpose-correction = cải chính
purpose-inspection = thanh tra
purpose-issuance = cấp giấy tờ
purpose-maintenance = vận hành
purpose-registration = đăng ký
purpose-residence = cư trú
purpose-statistics = thống kê
purpose-subject = yêu cầu của công dân
purpose-unknown = mục đích chưa biết
purpose-verification = xác minh

raft-candidate = đang ứng cử
raft-follower = nút theo
raft-leader = nút dẫn
raft-learner = nút học
raft-shutdown = đã dừng

relation-child = con
relation-father = cha
relation-legal-representative = người đại diện
relation-mother = mẹ
relation-represented-person = người được đại diện
relation-spouse = vợ hoặc chồng

role-auditor = thanh tra
role-operator = quản trị
role-registrar = cán bộ đăng ký
role-site = máy chủ
role-unknown = vai trò chưa biết

service-birth = khai sinh
service-death = khai tử

site-active = đang hoạt động
site-retired = đã ngừng

standing-confirmed = đã xác nhận
standing-disputed = còn tranh chấp
standing-held = bị giữ lại
standing-pending = chờ xác nhận
standing-rejected = bị bác bỏ
standing-released = đã bỏ giữ

tier-central = trung ương
tier-commune = xã
tier-district = huyện
tier-province = tỉnh

# Names of laws, and what stands around them, as the tables of forms and rules write them.

law-adoption = Luật Nuôi con nuôi
law-and = {" "}và{" "}
law-before = trước năm{" "}
law-article = Điều
law-articles = Điều
law-civil-code = Bộ luật Dân sự
law-civil-status = Luật Hộ tịch
law-decree = Nghị định
law-identification = Luật Căn cước
law-law = Luật
law-marriage = Luật Hôn nhân và gia đình
law-nationality = Luật Quốc tịch Việt Nam
law-residence = Luật Cư trú
law-to = {" "}đến{" "}

# What stands for a value in the help.

placeholder-address = ĐỊA_CHỈ
placeholder-after = CHỖ_DỪNG
placeholder-age-max = TUỔI
placeholder-age-min = TUỔI
placeholder-archive = KHO
placeholder-born = NGÀY_SINH
placeholder-by = CÁCH_GỘP
placeholder-case = SỐ_HỒ_SƠ
placeholder-count = SỐ_LƯỢNG
placeholder-create = LOẠI
placeholder-day = NGÀY
placeholder-day-holiday = NGÀY=LỄ
placeholder-days = NGÀY
placeholder-dir = THƯ_MỤC
placeholder-edit = LẦN_GHI
placeholder-event = SỰ_KIỆN
placeholder-field = TRƯỜNG
placeholder-file = TỆP
placeholder-format = DẠNG
placeholder-from = TỪ
placeholder-grounds = CĂN_CỨ
placeholder-group = NHÓM
placeholder-household = HỘ
placeholder-kind = LOẠI
placeholder-language = NGÔN_NGỮ
placeholder-mother = TÊN_MẸ
placeholder-name = TÊN
placeholder-number = SỐ
placeholder-on = NGÀY
placeholder-output = TỆP
placeholder-person = NGƯỜI
placeholder-public-key = KHÓA
placeholder-purpose = MỤC_ĐÍCH
placeholder-record = HỒ_SƠ
placeholder-record---field-value = HỒ_SƠ | TRƯỜNG=GIÁ_TRỊ
placeholder-request = YÊU_CẦU
placeholder-role-record---input-value = VAI=HỒ_SƠ | Ô=GIÁ_TRỊ
placeholder-seconds = GIÂY
placeholder-series = DẢI
placeholder-shard = PHÂN_VÙNG
placeholder-show = TRƯỜNG
placeholder-site = MÁY_CHỦ
placeholder-title = TIÊU_ĐỀ
placeholder-unit = ĐƠN_VỊ
placeholder-units = ĐƠN_VỊ
placeholder-until = CẤP
placeholder-valid-from = NGÀY
placeholder-value = GIÁ_TRỊ
placeholder-within = GIÂY
placeholder-year = NĂM

# What the help says of its own.

help-arguments = Đối số
help-choices = chọn một trong:
help-command-here = <LỆNH>
help-commands = Lệnh
help-default = mặc định:
help-options = Tùy chọn
help-options-here = [TÙY_CHỌN]
help-options-of-all = Tùy chọn của các lệnh có hỏi máy chủ, ghi trước hoặc sau lệnh
help-usage = Cách dùng:
