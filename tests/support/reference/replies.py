"""
This module transcribes Pico's replies once.

The first part is the API reference v0.4, word for word. The second part is not documented there: it has the replies of
RuoYi, the framework whose wording is in the documented 401 body, and of the gateways in front of it.
"""

import json

# --- API reference v0.4 ---------------------------------------------------------------------------

REQUEST_ID = "9ca38439-732f-4c88-87c7-0b3eda19dfca"
"""Most of the reference's examples show this ID."""

# "Authentication", 401 Unauthorized Example
UNAUTHORIZED = """{
"msg": "請求訪問:/xxx/yyy,驗證失敗,無法訪問系统資源",
"code": "401"
}""".encode()

# "Errors", Error Response Body
ERROR = b"""{
"request_id": "9ca38439-732f-4c88-87c7-0b3eda19dfca",
"errors": ["Error description message"]
}"""

# "Retrieve JWT Token"
TOKEN = b"""{
"request_id": "9ca38439-732f-4c88-87c7-0b3eda19dfca",
"token": "eyJhbGciOiJIUzUxMiJ9..."
}"""

# "Create Campaign"
CREATED_CAMPAIGN = b"""{
"request_id": "db675a0f-c0ca-46b1-bfc1-abf76663feee"
}"""

# "List Campaigns"
CAMPAIGNS = b"""{
"campaigns": [
{
"id": "campaign-123",
"name": "My Campaign",
"remark": "Campaign description",
"created_at": "2024-01-15T10:30:00Z"
}
],
"request_id": "9ca38439-732f-4c88-87c7-0b3eda19dfca"
}"""

# "Send an SMS"
ACCEPTED_SMS = b"""{
"request_id": "9ca38439-732f-4c88-87c7-0b3eda19dfca"
}"""

# "Get Account Balance"
BALANCE = b"""{
"balance": "1234.56",
"request_id": "9ca38439-732f-4c88-87c7-0b3eda19dfca",
"username": "user333"
}"""

# "Definitions", MsgInfo: the body that is assumed for the replies without an example.
MSG_INFO = ACCEPTED_SMS

# --- not documented in v0.4 -----------------------------------------------------------------------

TOO_FREQUENT = "访问过于频繁，请稍候再试"
TOO_FREQUENT_TRADITIONAL = "訪問過於頻繁，請稍候再試"
REPEATED_SUBMISSION = "不允许重复提交，请稍候再试"
REPEATED_SUBMISSION_TRADITIONAL = "不允許重複提交，請稍候再試"
OTHER_EXCEPTION = "系统异常，请联系管理员"

DOCUMENTED_401_WORDS = "請求訪問:{path},驗證失敗,無法訪問系统資源"
FRAMEWORKS_401_WORDS = "请求访问：{path}，认证失败，无法访问系统资源"

BAD_GATEWAY_PAGE = b"""<html>
<head><title>502 Bad Gateway</title></head>
<body>
<center><h1>502 Bad Gateway</h1></center>
<hr><center>nginx</center>
</body>
</html>
"""


def framework(code: int | str, msg: str) -> bytes:
    """Return the framework's body for an error."""
    return json.dumps({"msg": msg, "code": code}, ensure_ascii=False).encode()
