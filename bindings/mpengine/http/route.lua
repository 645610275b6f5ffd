--- The route of a request: its proxy, and the addresses of the hosts that are connected to. libcurl
--- gets both, so it neither reads the environment nor looks up names, which it would do on a thread
--- that cannot be abandoned.
local core = require "mpengine.core"
local names = require "mpengine.names"

local route = {}

local getenv, now, min = os.getenv, core.now, math.min
local CACHE_SECONDS = 60 -- as in libcurl
local CACHE_MAX = 1000

-- ---- proxies ---------------------------------------------------------------------------------

--- The number of an IPv4 address.
local function number_of(address)
    local n, parts = 0, { address:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
    if #parts ~= 4 then return nil end
    for _, part in ipairs(parts) do n = n << 8 | tonumber(part) end
    return n
end

local function is_within(host, pattern)
    local address, bits = pattern:match "^([%d%.]+)/(%d+)$"
    local base, n = address and number_of(address), number_of(host)
    if not base or not n then return false end
    local shift = 32 - min(32, tonumber(bits))
    return base >> shift == n >> shift
end

--- True if the host is in the list of no_proxy: itself, its domain, its network, or all.
local function goes_straight(host, list)
    host = host:lower():gsub("%.$", ""):gsub("^%[(.*)%]$", "%1")
    for pattern in (list or ""):gmatch "[^,%s]+" do
        local wanted = pattern:lower():gsub("^%.", ""):gsub("%.$", ""):gsub("^%[(.*)%]$", "%1")
        if pattern == "*" or host == wanted or is_within(host, pattern) then return true end
        if not number_of(host) and host:sub(-#wanted - 1) == "." .. wanted then return true end
    end
    return false
end

local function from_environment(scheme)
    local url = getenv(scheme .. "_proxy")
    -- In a CGI program HTTP_PROXY holds the request header Proxy.
    if not url and scheme ~= "http" then url = getenv(scheme:upper() .. "_PROXY") end
    return url or getenv "all_proxy" or getenv "ALL_PROXY" or ""
end

local function proxy_for(scheme, host, given)
    local proxy = given or from_environment(scheme)
    if proxy ~= "" and goes_straight(host, getenv "no_proxy" or getenv "NO_PROXY") then return "" end
    return proxy
end

-- ---- addresses -------------------------------------------------------------------------------

local cache, cached = {}, 0 -- host -> { list =, till = }

local function keep(host, list)
    if cached >= CACHE_MAX then cache, cached = {}, 0 end
    if not cache[host] then cached = cached + 1 end
    cache[host] = { list = list, till = now() + CACHE_SECONDS }
end

--- A line for CURLOPT_RESOLVE, false when there is no name to look up, or nil and a message.
local function resolve(host, port, seconds)
    if core.is_address(host) then return false end
    local known = cache[host]
    local list = known and known.till > now() and known.list
    if not list then
        local why
        list, why = names.addresses(host, seconds)
        if not list then
            if why == "timeout" then return nil, why end
            return nil, ("the host '%s' is not found: %s"):format(host, why)
        end
        keep(host, list)
    end
    local addresses = {}
    for _, a in ipairs(list) do
        if not a.addr:find("%", 1, true) then -- libcurl accepts no scope
            addresses[#addresses + 1] = a.family == "inet6" and "[" .. a.addr .. "]" or a.addr
        end
    end
    if #addresses == 0 then return false end
    return ("+%s:%d:%s"):format(host, port, table.concat(addresses, ","))
end

--- The hosts whose addresses this process looks up, with their ports.
local function hops(url, proxy)
    local scheme, host, port = core.url_parts(url)
    local target = { host, port or scheme == "https" and 443 or 80 }
    if proxy == "" then return { target } end
    local kind, proxy_host, proxy_port = core.url_parts(proxy)
    if not kind then return {} end
    local first = { proxy_host, proxy_port or kind == "https" and 443 or 1080 }
    if kind == "socks4" or kind == "socks5" then return { first, target } end
    return { first }
end

--- Fills in plan.proxy and plan.resolve.
---@param plan table with url
---@param proxy? string the one that is asked for
---@param seconds? number for the look-ups
---@return boolean? ok
---@return string? why
function route.find(plan, proxy, seconds)
    local scheme, host = core.url_parts(plan.url)
    plan.proxy, plan.resolve = proxy or "", {}
    if scheme ~= "http" and scheme ~= "https" then return true end -- libcurl reports what is wrong with it
    plan.proxy = proxy_for(scheme, host, proxy)
    local start = now()
    for _, hop in ipairs(hops(plan.url, plan.proxy)) do
        local left = seconds and math.max(0, start + seconds - now())
        local line, why = resolve(hop[1]:lower(), hop[2], left)
        if line == nil then return nil, why end
        plan.resolve[#plan.resolve + 1] = line or nil
    end
    return true
end

return route
