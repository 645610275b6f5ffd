--- Queue and JoinableQueue of a remote manager: a list of items, and the tasks that wait for an item or
--- for room. An item that is handed over is kept under the token of its receiver until the receiver says
--- that it has it; one whose receiver is not heard of goes back to the front. So an item is lost only with
--- a process that had it.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local core = require "mpengine.core"
local object = require "mpengine.remote.object"
local settle = require "mpengine.remote.settle"
require "mpengine.remote.mail"

-- ARGV: name, client, lease, token. G: tasks that wait for an item, W: tasks that wait for room, V: their items,
-- H: items handed over.
local COMMON <const> = [[
local name, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local Q, S = P .. 'queue:' .. name, P .. 'queues:' .. name
local G, W = P .. 'queueg:' .. name, P .. 'queuew:' .. name
local V, H = P .. 'queuev:' .. name, P .. 'queueh:' .. name
local entry, at = me .. ' ' .. ARGV[4], now()
local function size()
    local text = call('HGET', P .. 'parameters', 'Queue:' .. name)
    return tonumber(text or '0')
end
local function hand(item)
    local client, token, waiting = pop_waiting(G, at)
    if not client then return false end
    call('HSET', H, waiting, item)
    mail(client, 'w', token, 'item', item)
    return true
end
-- One less has to be done with. Tasks that wait for all of them go on.
local function lower()
    local left = call('HINCRBY', S, 'unfinished', -1)
    while left == 0 do
        local waiting = call('LPOP', P .. 'queuej:' .. name)
        if not waiting then break end
        local client, token = waiting:match('^(%S+) (%S+)$')
        mail(client, 'w', token, 'ok', 1)
    end
    return left
end
-- The item of a task that is dead, or leaves, is not put. One that was only stopped asks again, as for the first time.
local function forget_put(waiting)
    if call('HDEL', V, waiting) == 0 then return false end
    local client, token = waiting:match('^(%S+) (%S+)$')
    call('HDEL', P .. 'once:' .. client, token)
    lower()
    return true
end
local function next_putter()
    while true do
        local waiting = call('LPOP', W)
        if not waiting then return end
        local client, token = waiting:match('^(%S+) (%S+)$')
        if deadline(client) > at then return client, token, waiting end
        forget_put(waiting)
    end
end
local function fill()
    local most = size()
    while most == 0 or call('LLEN', Q) < most do
        local client, token, waiting = next_putter()
        if not client then return end
        local item = call('HGET', V, waiting)
        call('HDEL', V, waiting)
        if item then
            if not hand(item) then call('RPUSH', Q, item) end
            mail(client, 'w', token, 'ok', 1)
        end
    end
end
local function sweep()
    for _, held in ipairs(call('HKEYS', H)) do
        if deadline(held:match('^%S+')) <= at then
            local item = call('HGET', H, held)
            call('HDEL', H, held)
            if not hand(item) then call('LPUSH', Q, item) end
        end
    end
end
]]

-- ARGV: item, may it wait, numbers that are over. 1: it is there, 0: no room, -1: closed
local PUT = client.script(COMMON .. [[
beat(me, lease, at)
local done = was_done(me, ARGV[4], ARGV[7])
if call('HEXISTS', V, entry) == 1 then
    join(W, entry)
    fill()
    if call('HEXISTS', V, entry) == 1 then return 0 end
    return 1
end
if done then return 1 end
if call('HEXISTS', S, 'closed') == 1 then return -1 end
local most, full = size(), false
if most > 0 then
    fill()
    full = call('LLEN', Q) >= most
end
if full and ARGV[6] == '0' then return 0 end
note_done(me, ARGV[4])
call('HINCRBY', S, 'unfinished', 1)
if full then
    call('HSET', V, entry, ARGV[5])
    call('RPUSH', W, entry)
    return 0
end
if not hand(ARGV[5]) then call('RPUSH', Q, ARGV[5]) end
return 1
]])

-- 1: it was put. One that has left is not noted any more, so the answer is the same when it is asked again.
local LEAVE_PUT = client.script(COMMON .. [[
if not forget_put(entry) then return call('HEXISTS', P .. 'once:' .. me, ARGV[4]) end
call('LREM', W, 1, entry)
return 0
]])

-- ARGV: may it wait. {1, item}, {0}: none, {-1}: closed
local GET = client.script(COMMON .. [[
local function held()
    local item = call('HGET', H, entry)
    if item then beat(me, lease, at) end
    return item
end
local item = held()
if item then return {1, item} end
item = call('LPOP', Q)
if not item then
    sweep()
    item = held() -- this one was the first in line
    if item then return {1, item} end
    item = call('LPOP', Q)
end
if item then
    call('LREM', G, 1, entry)
    beat(me, lease, at)
    call('HSET', H, entry, item)
    if call('EXISTS', W) == 1 then fill() end
    return {1, item}
end
if call('HEXISTS', S, 'closed') == 1 and call('EXISTS', W) == 0 then
    call('LREM', G, 1, entry)
    return {-1}
end
if ARGV[5] == '1' then
    beat(me, lease, at)
    join(G, entry)
end
return {0}
]])

local LEAVE_GET = client.script(COMMON .. [[
call('LREM', G, 1, entry)
local item = call('HGET', H, entry)
if item then return {1, item} end
return {0}
]])

local GIVE_BACK = client.script(COMMON .. [[
local item = call('HGET', H, entry)
if not item then return 0 end
call('HDEL', H, entry)
if not hand(item) then call('LPUSH', Q, item) end
return 1
]])

-- Does the receiver, which was silent for long, still have the item?
local IS_KEPT = client.script(COMMON .. [[
beat(me, lease, at)
return call('HEXISTS', H, entry)
]])

local CLOSE = client.script(COMMON .. [[
call('HSET', S, 'closed', 1)
for _, list in ipairs({G, W}) do
    while list == G or call('EXISTS', V) == 0 do
        local waiting = call('LPOP', list)
        if not waiting then break end
        local client, token = waiting:match('^(%S+) (%S+)$')
        mail(client, 'w', token, 'closed', 1)
    end
end
return 1
]])

local DONE = client.script(COMMON .. [[
local left = tonumber(call('HGET', S, 'unfinished') or 0)
if left <= 0 then return -1 end
return lower()
]])

local JOIN = client.script(COMMON .. [[
local J = P .. 'queuej:' .. name
if tonumber(call('HGET', S, 'unfinished') or 0) <= 0 then
    call('LREM', J, 1, entry)
    return 1
end
if ARGV[5] == '1' then
    beat(me, lease, at)
    join(J, entry)
end
return 0
]])

local LEAVE_JOIN = client.script(COMMON .. [[
if call('LREM', P .. 'queuej:' .. name, 1, entry) == 1 then return 0 end
return tonumber(call('HGET', S, 'unfinished') or 0) <= 0 and 1 or 0
]])

-- An item that a task had got is not given again, one that it had given back is there again. A put that had ended is
-- done as soon as there is room, unless it had failed.
local SETTLEMENT = settle.new(COMMON, [[
drop(G)
for _, held in ipairs(call('HKEYS', H)) do
    if is_stale(held) then
        local item = call('HGET', H, held)
        call('HDEL', H, held)
        if has_left(held) and not hand(item) then call('LPUSH', Q, item) end
    end
end
for _, waiting in ipairs(call('HKEYS', V)) do
    if is_stale(waiting) and has_left(waiting) and forget_put(waiting) then call('LREM', W, 1, waiting) end
end
return 1
]], function(c, name) return { name, c.id, c:lease_ms() } end)

local function run(c, self, safe, script, token, ...)
    return c:run(safe, script, object.name(self), c.id, c:lease_ms(), token or "", ...)
end

local function define(kind)
    local class = object.class(kind, "queue")
    local methods = class.methods

    local function put(self, call, value, timeout)
        local c = object.check(self, class, call)
        check.timeout(kind .. ":" .. call, 2, timeout)
        local bytes = object.encode(object.manager_of(self), kind .. ":" .. call, value)
        local function said(reply)
            if reply ~= 0 then return reply end
        end
        local number
        c:uses(SETTLEMENT, object.name(self))
        local _ <close> = setmetatable({}, { __close = function() if number then c:over(number) end end })
        local reply = c:obtain({
            ask = function(token, join)
                number = token
                return said(c:telling_over(function(over)
                    return run(c, self, true, PUT, token, bytes, join and 1 or 0, over)
                end)), c.lease / 3
            end,
            given = function(mail) return mail.closed and -1 or 1 end,
            leave = function(token) return said(run(c, self, true, LEAVE_PUT, token)) end,
        }, timeout)
        if reply == 1 then return true end
        return nil, reply and "closed" or "full"
    end

    --- The item is with this process from now on.
    local function keep(c, self, token)
        c:tell({ "HDEL", c.prefix .. "queueh:" .. object.name(self), c.id .. " " .. token })
    end

    local function get(self, call, timeout)
        local c = object.check(self, class, call)
        check.timeout(kind .. ":" .. call, 1, timeout)
        c:uses(SETTLEMENT, object.name(self))
        local of, beaten = nil, core.now() -- the token, and when this process beat last; the first question is a beat
        -- An item goes to another one when its receiver is judged dead: one that was stopped for long asks first.
        local function mine(item, token)
            of = token
            if core.now() - beaten < 0.8 * c.lease then return item end
            local at = core.now()
            if run(c, self, true, IS_KEPT, token) == 0 then return nil, 0 end
            beaten = at
            return item
        end
        local function said(reply, token)
            if reply[1] == 1 then return mine(reply[2], token) end
            if reply[1] == -1 then return false end
        end
        local item = c:obtain({
            ask = function(token, join)
                local at = core.now()
                local reply = run(c, self, true, GET, token, join and 1 or 0)
                beaten = at
                local got, again = said(reply, token)
                return got, again or c.lease / 3
            end,
            given = function(mail) return mail.item and mine(mail.item, mail.w) or mail.closed and false end,
            leave = function(token) return (said(run(c, self, true, LEAVE_GET, token), token)) end,
            give_back = function(_, token) run(c, self, true, GIVE_BACK, token) end,
        }, timeout)
        if item == nil then return false, "empty" end
        if not item then return false, "closed" end
        keep(c, self, of)
        return true, object.decode(object.manager_of(self), kind .. ":" .. call, item)
    end

    --- Puts a value: true, or nil and "full" or "closed".
    ---@param value any
    ---@param timeout number? seconds to wait for room
    function methods:put(value, timeout) return put(self, "put", value, timeout) end

    function methods:put_nowait(value) return put(self, "put_nowait", value, 0) end

    local function value_of(got, value)
        if got then return value end
        return nil, value
    end

    --- Takes the first item, or nil and "empty" or "closed".
    ---@param timeout number? seconds to wait for one
    function methods:get(timeout) return value_of(get(self, "get", timeout)) end

    function methods:get_nowait() return value_of(get(self, "get_nowait", 0)) end

    --- Takes items until the queue is closed and drained.
    function methods:iter()
        object.check(self, class, "iter")
        return function()
            local got, value = get(self, "iter")
            if not got then return nil end
            if value == nil then check.misuse(kind .. ":iter", "nil_item") end
            return value
        end
    end

    function methods:qsize()
        local c = object.check(self, class, "qsize")
        return c:command(true, { "LLEN", c.prefix .. "queue:" .. object.name(self) })
    end

    function methods:empty()
        object.check(self, class, "empty")
        return self:qsize() == 0
    end

    function methods:full()
        object.check(self, class, "full")
        local most = tonumber(object.agree(object.manager_of(self), "Queue", object.name(self), nil, "0"))
        return most > 0 and self:qsize() >= most
    end

    --- Nothing more is put, by any process.
    function methods:close()
        local c = object.check(self, class, "close")
        run(c, self, true, CLOSE)
    end

    function class.__len(self) return self:qsize() end

    function class.open(manager, name, maxsize)
        check.count("Manager:" .. kind, 2, maxsize, 0, "maxsize")
        object.agree(manager, "Queue", name, maxsize and tostring(maxsize), "0")
        return object.new(class, manager, name)
    end

    return class
end

local Queue, JoinableQueue = define "Queue", define "JoinableQueue"

--- Says that an item is done with; an error when there were no more.
function JoinableQueue.methods:task_done()
    local c = object.check(self, JoinableQueue, "task_done")
    if run(c, self, false, DONE) < 0 then check.misuse("JoinableQueue:task_done", "all_done") end
end

--- Waits until all items are done with: true, or nil and "timeout".
---@param timeout number? seconds
function JoinableQueue.methods:join(timeout)
    local c = object.check(self, JoinableQueue, "join")
    check.timeout("JoinableQueue:join", 1, timeout)
    local function said(reply)
        if reply == 1 then return true end
    end
    local done = c:obtain({
        ask = function(token, join) return said(run(c, self, true, JOIN, token, join and 1 or 0)), c.lease end,
        given = function() return true end,
        leave = function(token) return said(run(c, self, true, LEAVE_JOIN, token)) end,
    }, timeout)
    if done then return true end
    return nil, "timeout"
end

return { Queue = Queue, JoinableQueue = JoinableQueue, SimpleQueue = Queue }
