--- The URLs of Redis: redis://user:password@host:port/database, rediss:// with TLS, unix:///path?db=1.
local url = {}

---@class mpengine.remote.Address
---@field host string? of TCP
---@field port integer?
---@field path string? of a unix socket
---@field tls boolean
---@field user string?
---@field password string?
---@field db integer
---@field shown string the URL without user and password
---@field is_local boolean it does not leave the machine

local LOOPBACK = { localhost = true, ["::1"] = true }

local function decode(text)
    return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- "user:password", ":password", "user" or "".
local function login(text)
    if text == "" then return nil, nil end
    local user, password = text:match("^([^:]*):(.*)$")
    if not user then return decode(text), nil end
    return user ~= "" and decode(user) or nil, decode(password)
end

local function database(text)
    if text == "" then return 0 end
    local n = text:match("^%d+$") and math.tointeger(tonumber(text))
    return n and n < 1 << 31 and n or nil
end

local function tcp(text)
    local scheme, all = text:match("^(rediss?)://(.*)$")
    local login_part, after = all:match("^(.*)@(.*)$") -- a password may have any character
    local place, rest = (after or all):match("^([^/?]*)/?([^/]*)$")
    if not place then return nil, "redis://host:port/database expected" end
    local host, port = place:match("^%[([%x:.]+)%]:?(%d*)$")
    if not host then host, port = place:match("^([^:%s]+):?(%d*)$") end
    local number = host and (port == "" and 6379 or math.tointeger(tonumber(port)))
    if not number or number < 1 or number > 65535 then return nil, "it has no host and port" end
    local db = database(rest)
    if not db then return nil, "the database must be a number" end
    local user, password = login(login_part or "")
    local shown = host:find(":", 1, true) and "[" .. host .. "]" or host
    return {
        host = host, port = number, tls = scheme == "rediss", user = user, password = password, db = db,
        shown = ("%s://%s:%d/%d"):format(scheme, shown, number, db),
        is_local = LOOPBACK[host] or host:find("^127%.%d+%.%d+%.%d+$") ~= nil,
    }
end

local function unix(text)
    local login_part, path, query = text:match("^unix://(.-)(/[^?]*)%??(.*)$")
    if not path then return nil, "unix:///path expected" end
    local db = query == "" and 0 or database(query:match("^db=(%d+)$") or "x")
    if not db then return nil, "?db=number is all that may follow the path" end
    local user, password = login(login_part:gsub("@$", ""))
    return { path = decode(path), tls = false, user = user, password = password, db = db,
        shown = ("unix://%s?db=%d"):format(path, db), is_local = true }
end

--- The parts of a URL, or nil and what is wrong with it.
---@param text string
---@return mpengine.remote.Address?
---@return string? why
function url.parse(text)
    if text:find("[%z%s]") then return nil, "it has a space or a zero byte" end
    if text:find("^rediss?://") then return tcp(text) end
    if text:find("^unix://") then return unix(text) end
    return nil, "it must begin with redis://, rediss:// or unix://"
end

--- Any text that may be a URL, without its user and password.
function url.masked(text)
    return (text:gsub("//[^/]*@", "//"))
end

return url
