--- The timeouts of patched sockets, and waiting within them. A real socket is set not to wait at
--- all; its timeouts are kept here.
local core = require "mpengine.core"
local order = require "mpengine.monkey.order"

local limits = {}

---@class mpengine.monkey.limits what is known of a socket
---@field b number? seconds for one call
---@field t number? seconds in all
---@field state userdata of the methods in C (lsocket.h)
---@field is_stream boolean? it is read and written in C
---@field asked { host: string, lookup: userdata }? what there was no time for
---@field reading mpengine.order?
---@field writing mpengine.order?
---@field pieces string[]? what the receive under way has got so far
---@field left string? what one that was cut short has left
local known = setmetatable({}, { __mode = "k" }) -- socket -> its timeouts

local function seconds(value) return value and value >= 0 and value or nil end

limits.states = setmetatable({}, { __mode = "k" }) -- socket -> its state in C

--- The timeouts of a socket. At its first use here the socket is made non-blocking.
function limits.of(s, class)
    local l = known[s]
    if l then return l end
    l = {}
    if class.gettimeout then
        local b, t = class.gettimeout(s)
        l.b, l.t = seconds(b), seconds(t)
    end
    class.settimeout(s, 0)
    l.state = core.stream_new()
    core.stream_limits(l.state, l.b, l.t)
    known[s], limits.states[s] = l, l.state
    return l
end

--- What LuaSocket has read and not returned.
local function buffered(s, class)
    local bytes = {}
    while class.dirty(s) do bytes[#bytes + 1] = class.receive(s, 1) end
    return table.concat(bytes)
end

--- The state of a socket in C. A stream is read and written there from then on.
function limits.adopt(s, class, is_stream)
    local l = limits.of(s, class)
    if is_stream and not l.is_stream then
        local tells_elapsed = select("#", class.send(s, "")) > 3 -- LuaSocket built for debugging
        core.stream_adopt(l.state, buffered(s, class), tells_elapsed)
        l.is_stream = true
    end
    return l.state
end

--- The methods settimeout and gettimeout of a class.
function limits.settimeout(class)
    return function(s, value, mode, ...)
        local l = limits.of(s, class)
        local results = table.pack(class.settimeout(s, value, mode, ...)) -- checks its arguments
        local name = mode == "t" or mode == "r" or mode == "total"
        l[name and "t" or "b"] = seconds(tonumber(value))
        core.stream_limits(l.state, l.b, l.t)
        class.settimeout(s, -1, "t")
        class.settimeout(s, 0)
        return table.unpack(results, 1, results.n)
    end
end

function limits.gettimeout(class)
    return function(s)
        local l = limits.of(s, class)
        return (l.b or -1) + 0.0, (l.t or -1) + 0.0
    end
end

--- Seconds left of a call that began at start; nil: no limit.
function limits.left(l, start)
    local left = l.t and start + l.t - core.now()
    if left then return math.max(0, l.b and math.min(l.b, left) or left) end
    return l.b and math.max(0, start + l.b - core.now())
end

--- The order of its calls in one direction, "reading" or "writing", which lsocket.c has of streams.
function limits.order(l, direction)
    l[direction] = l[direction] or order.new()
    return l[direction]
end

--- Begins a call: its limits and its start time. A call that may not wait lets the other tasks run.
function limits.enter(s, class)
    local l = limits.of(s, class)
    if l.b == 0 or l.t == 0 then core.sleep(0) end
    return l, core.now()
end

--- The direction to wait for after an error that means "not now", nil for other errors.
function limits.direction(err, usual)
    if err == "timeout" then return usual end
    if err == "wantread" then return "r" end
    if err == "wantwrite" then return "w" end
    return nil
end

--- Waits for the socket: false when there is no time left.
function limits.wait(s, class, l, start, err, usual)
    local way = limits.direction(err, usual)
    local left = way and limits.left(l, start)
    if not way or left == 0 then return false end
    local fd = class.getfd(s)
    if fd < 0 then return true end
    core.wait_fd(fd, way, left, true)
    return true
end

--- Its descriptor is no longer this socket's.
function limits.closing(s, class)
    local l, fd = known[s], class.getfd(s)
    if fd >= 0 then core.fd_closing(fd) end
    if l then core.stream_closing(l.state) end
    return l
end

--- The socket is closed: drops its state.
function limits.forget(s)
    known[s] = nil
end

return limits
