--- What a handler may answer, and how it is sent.
local check = require "mpengine.check"

local answers = {}

local function describe(value)
    if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
    return value == nil and "nothing" or "a " .. check.kind(value)
end

local function no_answer(what, expected, value)
    error(("http.serve: the %s of an answer must be %s, the handler returned %s"):format(what, expected,
        describe(value)), 0)
end

--- Sends the pieces that an iterator gives, until it gives none or the connection has ended.
local function send_pieces(req, status, headers, next_piece)
    local raw = req.raw
    raw:answer_pieces(status, headers)
    if req.method == "HEAD" then return raw:piece() end
    for piece in next_piece do
        if type(piece) ~= "string" then no_answer("pieces of the body", "strings", piece) end
        if not raw:piece(piece) then return end
    end
    raw:piece()
end

--- The value of a header in an answer, by its name in lower case.
local function header_of(headers, wanted)
    for name, value in pairs(headers or {}) do
        if type(name) == "string" and name:lower() == wanted then return value end
    end
end

local function answer_head(req, status, headers)
    local size = math.tointeger(tonumber(header_of(headers, "content-length")))
    if size and size >= 0 then
        req.raw:answer_head(status, headers, size)
    else
        req.raw:answer(status, headers)
    end
end

--- Sends what the handler returned. Raises when it is no answer.
---@param req mpengine.http.Request
---@param status any
---@param headers any
---@param body any
function answers.give(req, status, headers, body)
    if req.upgraded then return end
    if math.type(status) ~= "integer" or status < 200 or status > 999 then
        no_answer("status", "an integer from 200 to 999", status)
    end
    if headers ~= nil and type(headers) ~= "table" then no_answer("headers", "a table or nil", headers) end
    local kind = type(body)
    if kind == "string" then
        req.raw:answer(status, headers, body)
    elseif body == nil and req.method == "HEAD" then
        answer_head(req, status, headers)
    elseif body == nil then
        req.raw:answer(status, headers)
    elseif kind == "function" then
        send_pieces(req, status, headers, body)
    elseif kind == "table" or kind == "userdata" then
        local send = require "mpengine.http.file".sender(req, body)
        if send then return send(req, status, headers, body) end
        if not check.is_callable(body) then no_answer("body", "a string, an iterator or a file", body) end
        send_pieces(req, status, headers, body)
    else
        no_answer("body", "a string, an iterator or a file", body)
    end
end

return answers
