--- LuaSocket and LuaSec, so that only the task waits. The methods are replaced in the tables of
--- their classes, and the sockets keep their types. So existing sockets, those of libraries that
--- make their own, and those that ssl.wrap makes of them are all patched. Timeouts are in
--- limits.lua, receive and send in streams.lua.
local core = require "mpengine.core"
local check = require "mpengine.check"
local limits = require "mpengine.monkey.limits"
local names = require "mpengine.names"
local originals = require "mpengine.monkey.originals"
local relay = require "mpengine.monkey.relay"
local streams = require "mpengine.monkey.streams"

local sockets = {}

local RETRY_SECONDS = 0.005 -- when a unix socket is writable, and its listener has no room

-- ---- names -----------------------------------------------------------------------------------

local function is_numeric(host) return type(host) ~= "string" or host == "*" or core.is_address(host) end

--- Looks up a host for a socket, within its timeouts. A call that timed out leaves the look-up, or
--- its result, to the next one, so that calls which may not wait succeed eventually too.
local function look_up(l, start, host)
    local asked = l.asked
    if not asked or asked.host ~= host then
        asked = { host = host, lookup = names.ask("addresses", host) }
        l.asked = asked
    end
    return asked.lookup:wait(limits.left(l, start))
end

--- A call is over with that result: its look-up is kept if it timed out.
local function over(l, ok, err)
    local asked = l.asked
    if asked and (ok or err ~= "timeout") then
        l.asked = nil
        asked.lookup:close()
    end
    if ok then return ok end
    return nil, err
end

--- Addresses of a host, as { family =, addr = }, those of one family only when one is given.
local function addresses(host, family, l, start)
    if is_numeric(host) then
        local v6 = type(host) == "string" and host:find(":", 1, true)
        return { { addr = host, family = v6 and "inet6" or "inet" } }
    end
    local list, why
    if l then
        list, why = look_up(l, start, host)
    else
        list, why = names.dns.getaddrinfo(host)
    end
    if not list then return nil, why end
    local fitting = {}
    for _, a in ipairs(list) do
        if a.family == family or family == nil or family == "unspec" then fitting[#fitting + 1] = a end
    end
    if #fitting == 0 then return nil, "host not found" end
    return fitting
end

-- ---- connecting ------------------------------------------------------------------------------

local UNDER_WAY = { timeout = true, ["Operation already in progress"] = true }

local function connect_to(s, class, l, start, ...)
    local ok, err = class.connect(s, ...)
    local waited = false
    while not ok and UNDER_WAY[err] do
        if waited then core.sleep(RETRY_SECONDS) end
        if not limits.wait(s, class, l, start, "timeout", "w") then return nil, "timeout" end
        ok, err = class.connect(s, ...)
        if err == "already connected" then return 1 end
        waited = true
    end
    return ok, err
end

--- The family a socket is bound to; a socket without a descriptor takes that of its peer.
local function family_of(s, class)
    if not class.getfamily or class.getfd(s) < 0 then return nil end
    return class.getfamily(s) == "inet6" and "inet6" or "inet"
end

--- To a host with a name.
local function connect(class)
    return function(s, host, ...)
        local l, start = limits.enter(s, class)
        local list, err = addresses(host, family_of(s, class), l, start)
        local ok
        for _, a in ipairs(list or {}) do
            ok, err = connect_to(s, class, l, start, a.addr, ...)
            if ok or err == "timeout" then break end
        end
        return over(l, ok, err)
    end
end

--- Of a socket in the file system: there is no name to look up.
local function connect_local(class)
    return function(s, ...)
        local l, start = limits.enter(s, class)
        local ok, err = connect_to(s, class, l, start, ...)
        if ok then return ok end
        return nil, err
    end
end

--- A method whose first argument is the name of a host, and that waits only for the look-up.
local function with_host(class, name)
    local method = class[name]
    return function(s, host, ...)
        local l, start = limits.enter(s, class)
        local list, err = addresses(host, family_of(s, class), l, start)
        local ok
        for _, a in ipairs(list or {}) do
            ok, err = method(s, a.addr, ...)
            if ok then break end
        end
        return over(l, ok, err)
    end
end

local function close(class)
    return function(s, ...)
        local l = limits.closing(s, class)
        limits.forget(s)
        if l and l.asked then l.asked.lookup:close() end
        return class.close(s, ...)
    end
end

-- ---- classes ---------------------------------------------------------------------------------

-- Per kind of socket, what replaces a method: a function that makes it of its class; or the class's own
-- method, called from C, which waits until the socket can be read or written. A method with a host has
-- a function that makes the one for names.
local function own(event, by_name) return { event = event, by_name = by_name } end

local common = {
    settimeout = limits.settimeout, gettimeout = limits.gettimeout, close = close, dirty = streams.dirty,
}
local stream = { connect = own("w", connect), accept = own "r", bind = own("w", with_host) }
local unix_stream = { connect = connect_local, accept = own "r" }
local unix_datagram = {
    connect = connect_local,
    receive = own "r", receivefrom = own "r", send = own "w", sendto = own "w",
}
local datagram = { setpeername = own("w", with_host), setsockname = own("w", with_host) }
for _, name in ipairs { "receive", "receivefrom", "send", "sendto" } do datagram[name] = unix_datagram[name] end
local tls = { receive = streams.receive, send = streams.send, dohandshake = own "r" }

local kinds = { -- kind of socket -> what is replaced, is it a stream's
    tcp = { stream, true },
    unix = { unix_stream, true },
    unixstream = { unix_stream, true },
    udp = { datagram },
    unixdgram = { unix_datagram },
    ssl = { tls },
}

local patched = {} -- table of methods -> true

--- The methods of a stream that lsocket.c has, and those that concern its state.
local function patch_stream(methods, class, meta)
    local function adopt(s) return limits.adopt(s, class, true) end
    for name, make in pairs { receive = core.receive_method, send = core.send_method } do
        methods[name] = make(meta, limits.states, adopt, relay.misused(name, class[name]), class.getfd)
    end
    function methods.dirty(s)
        local state = limits.states[s]
        return state ~= nil and core.stream_input(state) ~= "" or class.dirty(s)
    end
    methods.setfd = relay.method("setfd", function(s, ...)
        limits.closing(s, class)
        return class.setfd(s, ...)
    end)
    methods.getstats = class.getstats and relay.method("getstats", function(s)
        local received, sent, age = class.getstats(s)
        local more_received, more_sent = core.stream_counts(adopt(s))
        return received + more_received, sent + more_sent, age
    end)
    methods.setstats = class.setstats and relay.method("setstats", function(s, ...)
        core.stream_counts(adopt(s), true)
        return class.setstats(s, ...)
    end)
end

--- The method that calls the class's own and waits, in C.
local function waiting(meta, class, name, how)
    local function adopt(s) return limits.adopt(s, class) end
    local by_name = how.by_name and relay.method(name, how.by_name(class, name))
    local raise = relay.misused(name, class[name])
    return core.method_of_own(meta, limits.states, adopt, raise, class.getfd, class[name], how.event, by_name)
end

local function patch_class(meta, replacements, is_stream)
    local methods = meta.__index
    if patched[methods] then return end
    patched[methods] = true
    local class = {}
    for name, f in pairs(methods) do class[name] = f end
    for _, set in ipairs { common, replacements } do
        for name, make in pairs(set) do
            if class[name] and type(make) == "table" then
                methods[name] = waiting(meta, class, name, make)
            elseif class[name] then
                methods[name] = relay.method(name, make(class))
            end
        end
    end
    if is_stream and class.receive then patch_stream(methods, class, meta) end
    local collect = meta.__gc
    meta.__gc = collect and function(s)
        if class.getfd(s) >= 0 then core.fd_closing(class.getfd(s)) end
        return collect(s)
    end
end

--- Patches the classes that exist by now.
local function patch_classes()
    for kind, how in pairs(kinds) do
        for _, meta in ipairs(originals.metatables(kind)) do
            originals.keep(kind .. ":", meta.__index, function() patch_class(meta, how[1], how[2]) end)
        end
    end
end

-- ---- functions of the module -----------------------------------------------------------------

local function sleep(n)
    if type(n) ~= "number" then
        check.fail("sleep", 1, "number", n)
    end
    core.sleep(math.max(0, n))
end

--- socket.connect: a connected socket | nil, message
local function connected(socket)
    return function(host, port, local_host, local_port, family)
        local list, err = addresses(host, family)
        for _, a in ipairs(list or {}) do
            local make = a.family == "inet6" and socket.tcp6 or socket.tcp4 or socket.tcp
            local s, ok
            s, err = make()
            if not s then return nil, err end
            ok = true
            if local_host then ok, err = s:bind(local_host, local_port or 0) end
            if ok then ok, err = s:connect(a.addr, port) end
            if ok then return s end
            s:close()
        end
        return nil, err
    end
end

local function patch_dns(dns)
    for name, ask in pairs(names.dns) do
        local stock = dns[name]
        if stock then
            dns[name] = relay.call(name, function(host, ...)
                local asks_for_name = name == "tohostname" or name == "getnameinfo"
                if type(host) ~= "string" or is_numeric(host) and not asks_for_name then return stock(host, ...) end
                return ask(host, ...)
            end)
        end
    end
end

local function patch_module(socket)
    if type(socket) ~= "table" or patched[socket] then return end
    patched[socket] = true
    if socket.dns then originals.keep("socket.dns.", socket.dns, function() patch_dns(socket.dns) end) end
    originals.keep("socket.", socket, function()
        socket.select = core.select_function(limits.states, relay.misused("select", socket.select, 0))
        socket.sleep = relay.call("sleep", sleep)
        if socket.connect then socket.connect = relay.call("connect", connected(socket)) end
    end)
end

-- ---- loading ---------------------------------------------------------------------------------

local C_MODULES = { ["socket.core"] = true, ["socket.unix"] = true, ["ssl.core"] = true }

local function loaded(name, module)
    patch_classes()
    if name == "socket.core" then patch_module(module) end
end

--- A searcher placed before the others that finds what they find, and patches the module once it is
--- loaded.
local function searcher(name)
    if not C_MODULES[name] then return nil end
    for _, other in ipairs(package.searchers) do
        local loader, extra
        if other ~= searcher then loader, extra = other(name) end
        if type(loader) == "function" then
            return function(...)
                local module = loader(...)
                loaded(name, module)
                return module
            end, extra
        end
    end
    return nil
end

--- Patches modules that are loaded, and those that are loaded later.
function sockets.patch()
    for name in pairs(C_MODULES) do
        if package.loaded[name] then loaded(name, package.loaded[name]) end
    end
    table.insert(package.searchers, 1, searcher)
end

return sockets
