--- Request:websocket: the handshake, and the end of the connection. The frames are in C.
local core = require "mpengine.core"
local check = require "mpengine.check"

local websocket = {}

local CLOSE_SECONDS <const> = 1 -- for the peer to answer a close
local HEAD <const> = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    .. "Sec-WebSocket-Accept: %s\r\n\r\n"
local NORMAL <const>, GOING_AWAY <const>, INTERNAL_ERROR <const> = 1000, 1001, 1011

--- Has a header, of one or more lines, this token in any case?
local function has_token(value, wanted)
    if type(value) == "table" then value = table.concat(value, ",") end
    for token in (value or ""):gmatch "[^,%s]+" do
        if token:lower() == wanted then return true end
    end
    return false
end

--- Why a request asks for no WebSocket: an answer; nil when it does.
local function refusal(req)
    local headers = req.headers
    if req.method ~= "GET" or not has_token(headers.upgrade, "websocket")
        or not has_token(headers.connection, "upgrade") or headers["sec-websocket-version"] ~= "13" then
        return 426, { Upgrade = "websocket", ["Sec-WebSocket-Version"] = "13" }, "426 Upgrade Required\n"
    end
    local key = headers["sec-websocket-key"]
    if type(key) ~= "string" or not key:find "^[%w+/]+==$" or #key ~= 24 then
        return 400, nil, "400 Bad Request\n"
    end
end

--- The end of the function, however it came: tells the peer, and waits until it has answered.
local Guard = {}

function Guard.__close(self, err)
    local ws, req = self.ws, self.req
    local code = err == nil and NORMAL or req.stopped and GOING_AWAY or INTERNAL_ERROR
    local deadline = core.now() + CLOSE_SECONDS
    local drop <close> = setmetatable({}, { __close = function() ws:drop() end }) -- luacheck: ignore 211
    if not core.call(ws.close, ws, code) then return end
    repeat
        local ok, message = core.call(ws.recv, ws, math.max(0, deadline - core.now()))
    until not ok or not message
end

--- Hands the connection of a request over to f.
---@param req mpengine.http.Request
---@param f fun(ws: userdata)
---@return integer? status
---@return table? headers
---@return string? body
function websocket.hand_over(req, f)
    if not check.is_callable(f) then check.fail("Request:websocket", 1, "function", f) end
    local status, headers, body = refusal(req)
    if status then return status, headers, body end
    local accept = core.websocket_accept(req.headers["sec-websocket-key"])
    req.upgraded = true
    local head
    if req.raw:take_over() then
        head = HEAD:format(accept)
    elseif not req.raw:upgrade { Upgrade = "websocket", ["Sec-WebSocket-Accept"] = accept } then
        return
    end
    local ws = core.websocket(req.raw, head)
    local guard <close> = setmetatable({ ws = ws, req = req }, Guard) -- luacheck: ignore 211
    f(ws)
end

return websocket
