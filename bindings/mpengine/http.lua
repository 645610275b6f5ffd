--- HTTP and HTTPS requests that suspend only the calling task. libcurl does the work: TLS, HTTP/2,
--- redirects, compression, proxies, reuse of connections.
local core = require "mpengine.core"
local check = require "mpengine.check"
local redirect = require "mpengine.http.redirect"
local route = require "mpengine.http.route"

local http = {}

---@class mpengine.http.Response
---@field status integer
---@field headers table<string, string> by name in any case; several of one name are joined by ", "
---@field set_cookie string[] the lines of Set-Cookie, each by itself
---@field body string "" when a sink took it
---@field url string where the redirects led
---@field elapsed number seconds

---@class mpengine.http.Options
---@field headers? table<string, string|number|string[]|false> false: not even what is sent by default
---@field body? string|fun(): string? a function gives pieces, and then nil; it may wait
---@field timeout? number seconds for the whole request
---@field connect_timeout? number seconds until there is a connection, the look-up of the name included
---@field idle_timeout? number seconds until a connection that is not used is closed, 60
---@field redirects? integer how many are followed, 30
---@field verify? boolean|string false: any certificate will do; a file: signed by one of those in it
---@field proxy? string
---@field auth? string "user:password"
---@field sink? fun(piece: string) gets the body piece by piece; may wait

local DEFAULT_REDIRECTS <const> = 30
local DEFAULT_IDLE <const> = 60
local TOKEN = "^[%w!#$%%&'*+%-.^_`|~]+$"

http.Headers = require "mpengine.http.headers"

-- ---- checking --------------------------------------------------------------------------------

local function shown(value)
    if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
    return value == nil and "nil" or "a " .. check.kind(value)
end

local getenv = os.getenv

local function is_text(value) return type(value) == "string" and not value:find("\0", 1, true) end

local function is_seconds(v) return type(v) == "number" and v >= 0 end
local SECONDS <const> = "a number of seconds, 0 or more"

-- option -> a function that checks a value, and the expected value
local options = {
    method = { function(v) return type(v) == "string" and v:find(TOKEN) ~= nil end, "the name of a method" },
    url = { function(v) return type(v) == "string" end, "a string" },
    headers = { function(v) return type(v) == "table" end, "a table" },
    body = { function(v) return type(v) == "string" or type(v) == "number" or check.is_callable(v) end,
        "a string or a function" },
    timeout = { is_seconds, SECONDS },
    connect_timeout = { is_seconds, SECONDS },
    idle_timeout = { is_seconds, SECONDS },
    redirects = { function(v) return math.type(v) == "integer" and v >= 0 and v < 1 << 31 end,
        "an integer, 0 or more" },
    verify = { function(v) return type(v) == "boolean" or is_text(v) end, "true, false or the name of a file" },
    proxy = { is_text, "a string" },
    auth = { is_text, "a string, 'user:password'" },
    sink = { check.is_callable, "a function" },
}

-- The options that each call accepts besides its own arguments.
local function names(...)
    local set = {}
    for _, name in ipairs { ... } do set[name] = true end
    return set
end
local function extended(set, ...)
    local all = names(...)
    for name in pairs(set) do all[name] = true end
    return all
end
local for_session = names("headers", "timeout", "connect_timeout", "idle_timeout", "redirects", "verify", "proxy",
    "auth")
local for_bodiless = extended(for_session, "sink")
local for_get = extended(for_bodiless, "body")
local for_request = extended(for_get, "method", "url")

local function check_option(call, name, value)
    local option = options[name]
    if not option[1](value) then
        error(("%s: option '%s' must be %s, got %s"):format(call, name, option[2], shown(value)))
    end
end

local function check_options(call, opts, allowed)
    for name, value in pairs(opts) do
        if not allowed[name] then
            error(("%s: unknown option '%s'"):format(call, tostring(name)))
        end
        check_option(call, name, value)
    end
end

-- ---- headers ---------------------------------------------------------------------------------

--- One header as lines for curl: "Name: value", "Name;" for an empty one, "Name:" for none at all.
local function add_lines(call, lines, name, value)
    if type(value) == "table" then
        for _, one in ipairs(value) do add_lines(call, lines, name, one) end
        return
    end
    if value == false then
        lines[#lines + 1] = name .. ":"
        return
    end
    if type(value) ~= "string" and type(value) ~= "number" then
        error(("%s: header '%s' must be a string, got %s"):format(call, name, shown(value)))
    end
    local text = tostring(value)
    if text:find("[\r\n%z]") then
        error(("%s: header '%s' must be one line"):format(call, name))
    end
    lines[#lines + 1] = text:find("%S") and name .. ": " .. text or name .. ";"
end

--- Name in lower case -> its lines.
local function collect(call, into, headers)
    for name, value in pairs(headers or {}) do
        if type(name) ~= "string" or not name:find(TOKEN) then
            error(("%s: '%s' is not a valid name of a header"):format(call, tostring(name)))
        end
        local lines = {}
        add_lines(call, lines, name, value)
        into[name:lower()] = lines
    end
end

local function header_lines(call, session, opts)
    local by_name = {}
    collect(call, by_name, session and session.headers)
    collect(call, by_name, opts.headers)
    -- No "Expect: 100-continue", which may cost a second; curl's default Content-Type of a form is
    -- kept for POST only.
    by_name.expect = by_name.expect or { "Expect:" }
    if opts.method ~= "POST" then by_name["content-type"] = by_name["content-type"] or { "Content-Type:" } end
    local list = {}
    for _, lines in pairs(by_name) do table.move(lines, 1, #lines, #list + 1, list) end
    return list
end

--- The header lines of a response as a table, and those of Set-Cookie as a list.
local function parse(head)
    local headers, cookies, last = {}, {}, nil
    for line in head:gmatch("([^\r\n]+)\r?\n") do
        local name, value = line:match("^([^:%s]+)[ \t]*:[ \t]*(.-)[ \t]*$")
        if name and not line:find("^HTTP/") then
            last = name:lower()
            headers[last] = headers[last] and headers[last] .. ", " .. value or value
            if last == "set-cookie" then cookies[#cookies + 1] = value end
        elseif last and line:find("^[ \t]") then
            headers[last] = headers[last] .. " " .. line:match("^[ \t]+(.-)[ \t]*$")
        end
    end
    return setmetatable(headers, http.Headers), cookies
end

-- ---- a request -------------------------------------------------------------------------------

local shared = { pools = {} } -- of requests without a session

--- The connections of a session, or those used without a session, that are closed after that time.
local function connections_of(owner, seconds)
    local found = owner.pools[seconds]
    if not found then
        found = core.connections(seconds)
        owner.pools[seconds] = found
    end
    return found
end

--- The request for the core: the options of the request take precedence over those of its session.
local function prepare(call, session, opts)
    local method = (opts.method or "GET"):upper()
    if method == "HEAD" and opts.body then
        error(call .. ": option 'body' cannot be used with the method HEAD")
    end
    local function option(name, default)
        local value = opts[name]
        if value == nil and session then value = session.opts[name] end
        if value == nil then return default end
        return value
    end
    local verify = option("verify", true)
    local feed = check.is_callable(opts.body) and opts.body or nil
    local timeout = option("timeout")
    return {
        start = core.now(), limit = timeout and core.now() + timeout,
        method = method, url = opts.url, feed = feed, fed = feed ~= nil,
        body = not feed and opts.body and tostring(opts.body) or nil,
        headers = header_lines(call, session and session.opts, { method = method, headers = opts.headers }),
        connect_limit = option("connect_timeout"),
        redirects = option("redirects", DEFAULT_REDIRECTS),
        insecure = verify == false,
        ca_file = type(verify) == "string" and verify or getenv "CURL_CA_BUNDLE" or getenv "SSL_CERT_FILE",
        proxy_asked = option("proxy"),
        auth = option("auth"),
        streaming = opts.sink ~= nil,
        cookies = session and session.cookies,
        connections = connections_of(session or shared, option("idle_timeout", DEFAULT_IDLE)),
    }
end

--- Seconds left; nil: no limit.
local function left_of(limit) return limit and math.max(0, limit - core.now()) end

local function least(a, b) return a and b and math.min(a, b) or a or b end

--- The next piece of the body, not an empty one, which would end it.
local function next_piece(feed)
    local piece
    repeat piece = feed() until piece ~= ""
    if piece ~= nil and type(piece) ~= "string" then
        error(("the function of option 'body' must return strings and then nil, returned %s"):format(shown(piece)), 0)
    end
    return piece
end

--- One request and its response: true, status, head, body, URL, redirect | nil and a message.
local function exchange(plan, sink)
    local connecting = plan.connect_limit and core.now() + plan.connect_limit
    local found, why = route.find(plan, plan.proxy_asked, least(left_of(plan.limit), left_of(connecting)))
    if not found then return nil, why end
    plan.timeout, plan.connect_timeout = left_of(plan.limit), left_of(connecting)
    local transfer <close> = core.transfer(plan.connections, plan)
    local piece
    repeat
        piece, why = transfer:read()
        if piece == true then transfer:feed(next_piece(plan.feed)) elseif piece then sink(piece) end
    until not piece
    if piece == nil then return nil, why end
    return true, transfer:result()
end

--- A message with the URL, without the password in it.
local function told(url, why)
    if why == "timeout" then return why end
    return ("%s: %s"):format(url:gsub("//[^/?#]*@", "//", 1), why)
end

--- Performs the request and follows its redirects: the response, or nil and a message.
local function perform(plan, sink)
    if plan.url:find("\0", 1, true) then return nil, "the URL has a zero byte" end
    plan.follows = plan.redirects > 0
    for count = 0, plan.redirects do
        local ok, status, head, body, url, target = exchange(plan, sink)
        if not ok then return nil, told(plan.url, status) end
        if not target or not plan.follows then
            local headers, set_cookie = parse(head)
            return { status = status, headers = headers, set_cookie = set_cookie, body = body, url = url,
                elapsed = core.now() - plan.start }
        end
        local why = ("Maximum (%d) redirects followed"):format(plan.redirects)
        if count < plan.redirects then
            ok, why = redirect.follow(plan, status, target)
            if ok then why = nil end
        end
        if why then return nil, told(plan.url, why) end
    end
end

local function request(session, call, opts)
    local plan = prepare(call, session, opts)
    return perform(plan, opts.sink)
end

--- A copy of the options with the arguments of the call.
local function with(opts, method, url, body)
    local all = {}
    for k, v in pairs(opts or {}) do all[k] = v end
    all.method, all.url = method, url
    if body ~= nil then all.body = body end
    return all
end

--- The public name of a call.
local function called(session, call) return (session and "http.Session:" or "http.") .. call end

--- get, delete, head: (url, opts)
local function bodiless(session, call, allowed, url, opts)
    local name = called(session, call)
    if type(url) ~= "string" then check.fail(name, 1, "url: string", url) end
    if opts ~= nil and type(opts) ~= "table" then check.fail(name, 2, "opts: table", opts) end
    check_options(name, opts or {}, allowed)
    local response, why = request(session, name, with(opts, string.upper(call), url))
    return response, why
end

--- post, put, patch: (url, body, opts)
local function bodied(session, call, url, body, opts)
    local name = called(session, call)
    if type(url) ~= "string" then check.fail(name, 1, "url: string", url) end
    if body ~= nil and type(body) ~= "number" and type(body) ~= "string" and not check.is_callable(body) then
        check.fail(name, 2, "body: string or function", body)
    end
    if opts ~= nil and type(opts) ~= "table" then check.fail(name, 3, "opts: table", opts) end
    check_options(name, opts or {}, for_bodiless)
    local response, why = request(session, name, with(opts, string.upper(call), url, body))
    return response, why
end

local function any(session, opts)
    local name = called(session, "request")
    check.type(name, 1, opts, "table")
    check_options(name, opts, for_request)
    check_option(name, "url", opts.url)
    local response, why = request(session, name, opts)
    return response, why
end

--- Fetches a URL.
---@param url string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response? response nil when there is none
---@return string? message "timeout", or what went wrong
function http.get(url, opts)
    local response, why = bodiless(nil, "get", for_get, url, opts)
    return response, why
end

---@param url string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response? response
---@return string? message
function http.delete(url, opts)
    local response, why = bodiless(nil, "delete", for_get, url, opts)
    return response, why
end

---@param url string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response? response with an empty body
---@return string? message
function http.head(url, opts)
    local response, why = bodiless(nil, "head", for_bodiless, url, opts)
    return response, why
end

--- Sends a body. Without a Content-Type it is sent as application/x-www-form-urlencoded.
---@param url string
---@param body? string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response? response
---@return string? message
function http.post(url, body, opts)
    local response, why = bodied(nil, "post", url, body, opts)
    return response, why
end

---@param url string
---@param body? string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response? response
---@return string? message
function http.put(url, body, opts)
    local response, why = bodied(nil, "put", url, body, opts)
    return response, why
end

---@param url string
---@param body? string
---@param opts? mpengine.http.Options
---@return mpengine.http.Response? response
---@return string? message
function http.patch(url, body, opts)
    local response, why = bodied(nil, "patch", url, body, opts)
    return response, why
end

--- Any request: http.request{ method = "PATCH", url =, ... }
---@param opts mpengine.http.Options also: url, method ("GET")
---@return mpengine.http.Response? response
---@return string? message
function http.request(opts)
    local response, why = any(nil, opts)
    return response, why
end

-- ---- sessions --------------------------------------------------------------------------------

---@class mpengine.http.Session
local Session = { __name = "mp.http.Session" }
local state = setmetatable({}, { __mode = "k" }) -- session -> its options, connections and cookies

local function state_of(self, call)
    return state[self] or check.bad_self("http.Session:" .. call, "mp.http.Session", self)
end

local function check_session(self, call)
    local s = state_of(self, call)
    if s.closed then error("http.Session:" .. call .. ": the session is closed") end
    s.cookies = s.cookies or core.cookies()
    return s
end

local methods = {}

function methods:get(url, opts)
    local response, why = bodiless(check_session(self, "get"), "get", for_get, url, opts)
    return response, why
end

function methods:delete(url, opts)
    local response, why = bodiless(check_session(self, "delete"), "delete", for_get, url, opts)
    return response, why
end

function methods:head(url, opts)
    local response, why = bodiless(check_session(self, "head"), "head", for_bodiless, url, opts)
    return response, why
end

function methods:post(url, body, opts)
    local response, why = bodied(check_session(self, "post"), "post", url, body, opts)
    return response, why
end

function methods:put(url, body, opts)
    local response, why = bodied(check_session(self, "put"), "put", url, body, opts)
    return response, why
end

function methods:patch(url, body, opts)
    local response, why = bodied(check_session(self, "patch"), "patch", url, body, opts)
    return response, why
end

function methods:request(opts)
    local response, why = any(check_session(self, "request"), opts)
    return response, why
end

--- Drops the cookies and closes the connections; those in use are closed when their requests have
--- ended. A second close is harmless.
function methods:close()
    local s = state_of(self, "close")
    for _, connections in pairs(s.pools) do connections:close() end
    s.closed, s.cookies, s.pools = true, nil, {}
end

Session.__index = methods
Session.__close = methods.close

function Session:__tostring()
    return state_of(self, "tostring").closed and "mp.http.Session (closed)" or "mp.http.Session"
end

--- A session keeps cookies, and options that apply to all its requests.
---@param opts? mpengine.http.Options without body and sink
---@return mpengine.http.Session
function http.Session(opts)
    if opts ~= nil then check.type("http.Session", 1, opts, "table") end
    local own = with(opts)
    check_options("http.Session", own, for_session)
    collect("http.Session", {}, own.headers)
    local self = setmetatable({}, Session)
    state[self] = { opts = own, pools = {} }
    return self
end

--- A server of HTTP: see docs/servers.md.
---@param settings table
---@return mpengine.server.Server
function http.serve(settings)
    local made = require "mpengine.http.serve".serve(settings)
    return made
end

return http
