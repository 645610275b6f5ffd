--- Looking up host names, for http and the sockets of monkey. Only the task waits; an abandoned
--- look-up continues on its thread.
local core = require "mpengine.core"

local names = {}

--- Begins a look-up; raises when no thread is available for it.
function names.ask(kind, ...)
    local lookup, why = core.lookup(kind, ...)
    if not lookup then error(why, 0) end
    return lookup
end

--- The addresses of a host, at least one.
---@param host string
---@param seconds? number
---@return { family: string, addr: string }[]? list
---@return string? why "timeout", or what went wrong
function names.addresses(host, seconds)
    local lookup <close>, failure = core.lookup("addresses", host)
    if not lookup then return nil, failure end
    local list, why = lookup:wait(seconds)
    return list, why
end

local function pick(list, family)
    local found = {}
    for _, entry in ipairs(list) do
        if entry.family == family then found[#found + 1] = entry.addr end
    end
    return found
end

local function all(kind, ...)
    local lookup <close> = names.ask(kind, ...)
    local list, why = lookup:wait()
    if not list then return nil, why end
    return list
end

--- The results of socket.dns.toip, and with first = "name" those of tohostname.
local function host(first, address)
    local list, why = all("host", address)
    if not list then return nil, why end
    local found = { name = pick(list, "name")[1], alias = pick(list, "alias"), ip = pick(list, "inet") }
    return first == "name" and found.name or found.ip[1], found
end

-- By their names in socket.dns.
names.dns = {
    toip = function(address) return host("ip", address) end,
    tohostname = function(address) return host("name", address) end,
    getaddrinfo = function(address) return all("addresses", address) end,
    getnameinfo = function(address, service)
        local list, why = all("names", address, service)
        if not list then return nil, why end
        if service == nil then return pick(list, "name") end
        if address == nil then return pick(list, "service")[1] end
        return pick(list, "name"), pick(list, "service")[1]
    end,
}

return names
