--- Files as answers: whole, or the range that the request asks for.
local core = require "mpengine.core"
local check = require "mpengine.check"

local files = {}

local TYPES = {
    avif = "image/avif", bin = "application/octet-stream", css = "text/css", csv = "text/csv", gif = "image/gif",
    gz = "application/gzip", htm = "text/html", html = "text/html", ico = "image/vnd.microsoft.icon",
    jpeg = "image/jpeg", jpg = "image/jpeg", js = "text/javascript", json = "application/json",
    md = "text/markdown", mjs = "text/javascript", mp3 = "audio/mpeg", mp4 = "video/mp4", ogg = "audio/ogg",
    pdf = "application/pdf", png = "image/png", svg = "image/svg+xml", tar = "application/x-tar",
    txt = "text/plain", wasm = "application/wasm", webm = "video/webm", webp = "image/webp",
    woff2 = "font/woff2", xml = "application/xml", zip = "application/zip",
}
local NS_PER_S <const> = 1000000000
local DEFAULT_TYPE <const> = "application/octet-stream"

-- ---- ranges -----------------------------------------------------------------------------------

--- The first and last byte of a range of a file with that size, counted from 0; nil: there is none
--- that this server gives, and the file is sent whole; false: it lies outside.
local function range_of(text, size)
    local first, last = text:match "^bytes=(%d*)%-(%d*)$"
    if not first or first == "" and last == "" then return nil end
    if first == "" then -- the last so many bytes
        local count = math.tointeger(tonumber(last)) or size
        if count == 0 or size == 0 then return false end
        return math.max(0, size - count), size - 1
    end
    first = math.tointeger(tonumber(first)) or size
    local to = last == "" and size - 1 or math.tointeger(tonumber(last)) or size - 1
    if to < first and last ~= "" then return nil end
    if first >= size then return false end
    return first, math.min(to, size - 1)
end

local function copied(headers)
    local all = {}
    for name, value in pairs(headers or {}) do all[name] = value end
    return all
end

local function header_of(headers, wanted)
    for name, value in pairs(headers) do
        if type(name) == "string" and name:lower() == wanted then return value end
    end
end

--- Does If-Range allow a part? It names the tag or the date that the file must have.
local function may_be_part(req, headers)
    local wanted = req.headers["if-range"]
    return not wanted or wanted == header_of(headers, "etag") or wanted == header_of(headers, "last-modified")
end

--- Sends an open file from where it is, or the part that is asked for.
local function send(req, status, headers, file)
    local fd, offset, size = core.file_part(file)
    if not fd then error(("http.serve: the file of an answer %s"):format(offset), 0) end
    headers = copied(headers)
    local wanted = req.headers.range
    local is_whole = status ~= 200 or req.method ~= "GET" and req.method ~= "HEAD" or type(wanted) ~= "string"
    if status == 200 then headers["Accept-Ranges"] = "bytes" end
    if not is_whole and may_be_part(req, headers) then
        local first, last = range_of(wanted, size)
        if first == false then
            headers["Content-Range"] = "bytes */" .. size
            return req.raw:answer(416, headers, "416 Range Not Satisfiable\n")
        elseif first then
            headers["Content-Range"] = ("bytes %d-%d/%d"):format(first, last, size)
            status, offset, size = 206, offset + first, last - first + 1
        end
    end
    req.raw:answer_file(status, headers, fd, offset, size)
end

-- ---- answers ----------------------------------------------------------------------------------

--- A file that the answer closes.
local Owned = { __name = "mpengine.http.File" }

local function send_owned(req, status, headers, body)
    local file <close> = body.file
    send(req, status, headers, file)
end

--- The function that sends this body; nil when it is no file.
---@return fun(req: mpengine.http.Request, status: integer, headers: table?, body: any)?
function files.sender(_, body)
    if io.type(body) then return send end
    if getmetatable(body) == Owned then return send_owned end
end

--- Does the request name this version of the file, so that it need not be sent again?
local function is_known(req, etag, modified)
    local match, since = req.headers["if-none-match"], req.headers["if-modified-since"]
    if type(match) == "string" then return match == "*" or match:find(etag, 1, true) ~= nil end
    return since ~= nil and since == modified
end

local function type_of(path)
    local extension = path:match "%.(%w+)$"
    local found = extension and TYPES[extension:lower()] or DEFAULT_TYPE
    return found:find "^text/" and found .. "; charset=utf-8" or found
end

--- The answer of Request:file.
---@param req mpengine.http.Request
---@param path string
---@param headers? table<string, string>
---@return integer status
---@return table headers
---@return table|string body
function files.answer(req, path, headers)
    check.type("Request:file", 1, path, "string")
    if req.method ~= "GET" and req.method ~= "HEAD" then
        return 405, { Allow = "GET, HEAD" }, "405 Method Not Allowed\n"
    end
    local file = not path:find("\0", 1, true) and io.open(path, "rb")
    local fd, _, size, modified = nil, nil, nil, nil
    if file then fd, _, size, modified = core.file_part(file) end
    if not fd then
        if file then file:close() end
        return 404, { ["Content-Type"] = "text/plain" }, "404 Not Found\n"
    end
    local all = copied(headers)
    local etag, date = ('"%x-%x"'):format(modified, size), os.date("!%a, %d %b %Y %H:%M:%S GMT", modified // NS_PER_S)
    if not header_of(all, "content-type") then all["Content-Type"] = type_of(path) end
    all.ETag, all["Last-Modified"] = header_of(all, "etag") or etag, header_of(all, "last-modified") or date
    if is_known(req, all.ETag, all["Last-Modified"]) then
        file:close()
        return 304, all, nil
    end
    return 200, all, setmetatable({ file = file }, Owned)
end

return files
