--- The event of a remote manager: a flag, and the tasks that wait for it.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"
require "mpengine.remote.mail"

local COMMON <const> = [[
local E, Q = P .. 'event:' .. ARGV[1], P .. 'eventq:' .. ARGV[1]
]]

-- Tells 256 tasks; 1: there are others.
local SET = client.script(COMMON .. [[
call('SET', E, 1)
local at = now()
for i = 1, 256 do
    local client, token = pop_waiting(Q, at)
    if not client then return call('EXISTS', Q) end
    mail(client, 'w', token, 'ok', 1)
end
return 1
]])

local ASK = client.script(COMMON .. [[
local me, entry = ARGV[2], ARGV[2] .. ' ' .. ARGV[4]
if call('EXISTS', E) == 1 then
    call('LREM', Q, 1, entry)
    return 1
end
if ARGV[5] == '1' then
    beat(me, tonumber(ARGV[3]), now())
    join(Q, entry)
end
return 0
]])

-- A task that is not in the list was there until the flag was set. ARGV[5]: numbers that are over
local LEAVE = client.script(COMMON .. [[
return leave(Q, ARGV[2], ARGV[4], ARGV[5]) and 0 or 1
]])

local Event = object.class("Event", "event")
local methods = Event.methods

local function key(c, self) return c.prefix .. "event:" .. object.name(self) end

--- Sets the flag: all tasks that wait go on, also when it is cleared at once.
function methods:set()
    local c = object.check(self, Event, "set")
    repeat local more = c:run(true, SET, object.name(self)) until more == 0
end

function methods:clear()
    local c = object.check(self, Event, "clear")
    c:command(true, { "DEL", key(c, self) })
end

function methods:is_set()
    local c = object.check(self, Event, "is_set")
    return c:command(true, { "EXISTS", key(c, self) }) == 1
end

--- Waits until it is set: true, or nil and "timeout".
---@param timeout number? seconds
function methods:wait(timeout)
    local c = object.check(self, Event, "wait")
    check.timeout("Event:wait", 1, timeout)
    local name = object.name(self)
    local function run(script, token, last)
        if c:run(true, script, name, c.id, c:lease_ms(), token, last) == 1 then return true end
    end
    local set = c:obtain({
        ask = function(token, join) return run(ASK, token, join and 1 or 0) end,
        given = function() return true end,
        leave = function(token)
            return c:leaving(token, function(over) return run(LEAVE, token, over) end)
        end,
    }, timeout)
    if set then return true end
    return nil, "timeout"
end

return { Event = Event }
