--- A server that is started again may have gone back in time: what its file had not got is lost, a moment or all of
--- it (docs/remote.md, "What is kept"). Then it has locks, permits and waiting tasks of processes that have given
--- them up since, and as those processes live, nothing would ever free them.
---
--- So a process that finds another server than before says, for each object that it has used lately and before it asks
--- anything else, which of its tokens are in use. The script removes its other ones, as was done before. A lock
--- that it holds is its again, unless the lock was given to another process meanwhile.
---
--- A death before the scripts have run leaves what its lease ends. Each script may run again.
local client = require "mpengine.remote.client"
local core = require "mpengine.core"

local settle = {}

local Client = client.Client

local KEPT <const> = 60 -- seconds after which what was done is in the server's file
local MOST <const> = 1000 -- of one kind, until old ones are looked for

-- The last of ARGV: the client's last number, tokens of tasks that wait, tokens of what is held, and tokens whose tasks
-- have got nothing.
local COMMON <const> = [[
local function tokens(text)
    local set = {}
    for token in text:gmatch('%S+') do set[token] = true end
    return set
end
local last, waits = tonumber(ARGV[#ARGV - 3]), tokens(ARGV[#ARGV - 2])
local held, left = tokens(ARGV[#ARGV - 1]), tokens(ARGV[#ARGV])
local function waits_no_more(entry)
    local client, token = entry:match('^(%S+) (%d+)$')
    return client == me and tonumber(token) <= last and not waits[token]
end
local function is_stale(entry) return waits_no_more(entry) and not held[entry:match('%d+$')] end
local function has_left(entry) return left[entry:match('%d+$')] == true end
local function drop(list)
    for _, entry in ipairs(call('LRANGE', list, 0, -1)) do
        if waits_no_more(entry) then call('LREM', list, 1, entry) end
    end
end
beat(me, lease, at)
]]

---@class mpengine.remote.Settlement what the server is told of the objects of a class
---@field script mpengine.remote.Script
---@field arguments fun(c: mpengine.remote.Client, name: string): (string|number)[] but those of the tokens
---@field is_held (fun(c: mpengine.remote.Client, name: string): boolean)? it must not be forgotten
---@field tokens (fun(c: mpengine.remote.Client, name: string): string[])? those of what is held

--- A settlement whose script has `me`, `lease`, `at` and is_stale, drop and has_left.
---@param before string
---@param body string
---@param arguments fun(c: mpengine.remote.Client, name: string): (string|number)[]
---@param more table? further fields
---@return mpengine.remote.Settlement
function settle.new(before, body, arguments, more)
    local s = more or {}
    s.script, s.arguments = client.script(before .. COMMON .. body), arguments
    return s
end

-- ---- what was used lately --------------------------------------------------------------------

local function new_times() return { at = {}, count = 0, most = MOST } end

local function forget(times, is_held)
    local before = core.now() - KEPT
    times.count = 0
    for key, at in pairs(times.at) do
        if at < before and not (is_held and is_held(key)) then
            times.at[key] = nil
        else
            times.count = times.count + 1
        end
    end
    times.most = math.max(MOST, 2 * times.count)
end

--- Notes that something is used now; what was used long ago is forgotten now and then.
local function note(times, key, is_held)
    if not times.at[key] then
        if times.count >= times.most then forget(times, is_held) end
        times.count = times.count + 1
    end
    times.at[key] = core.now()
end

--- A task of this process asks for something of an object: the server has a token for it.
---@param s mpengine.remote.Settlement
---@param name string
function Client:uses(s, name)
    local times = self.used[s]
    if not times then
        times = new_times()
        self.used[s] = times
    end
    note(times, name, s.is_held and function(held) return s.is_held(self, held) end)
end

--- A task has left without what it waited for.
function Client:has_left(token)
    self.left = self.left or new_times()
    note(self.left, token)
end

-- ---- telling ---------------------------------------------------------------------------------

local function numbers(set)
    local list = {}
    for token in pairs(set) do
        if tonumber(token) then list[#list + 1] = token end
    end
    return table.concat(list, " ")
end

--- A command for each object that was used.
---@param digests table<mpengine.remote.Settlement, string>
local function commands(self, digests)
    local waits, left = numbers(self.waits), self.left and numbers(self.left.at) or ""
    local list = {}
    for s, digest in pairs(digests) do
        for name in pairs(self.used[s].at) do
            local own = s.arguments(self, name)
            local words = table.move(own, 1, #own, 5, { "EVALSHA", digest, 1, self.prefix })
            local held = s.tokens and table.concat(s.tokens(self, name), " ") or ""
            table.move({ self.last_wait, waits, held, left }, 1, 4, #words + 1, words)
            list[#list + 1] = core.redis_command(words)
        end
    end
    return list
end

--- Tells all. False: the connection is lost.
local function tell(self, conn, deadline)
    local digests = {}
    for s in pairs(self.used) do
        local loaded = conn:call({ "SCRIPT", "LOAD", s.script.text }, deadline)
        if loaded.lost then return false end
        if type(loaded.value) == "string" then digests[s] = loaded.value end
    end
    local list = commands(self, digests)
    if #list == 0 then return true end
    local last = conn:ask(table.concat(list), #list)[#list]
    return conn:wait(last, deadline) and not last.lost
end

local RUN_ID <const> = [[
local info = redis.pcall('INFO', 'server')
return type(info) == 'string' and info:match('run_id:(%x+)') or ''
]]

--- Begins a new connection, before anything else is asked over it: when it leads to another server than the last one,
--- tells that what is in use. False: the connection is lost.
---@param conn mpengine.remote.Connection
---@param deadline number
---@return boolean
function Client:settle(conn, deadline)
    local said = conn:call({ "EVAL", RUN_ID, 0 }, deadline)
    if said.lost then return false end
    local id = type(said.value) == "string" and said.value or ""
    local is_new = self.run_id and (id == "" or id ~= self.run_id) -- the user may not be allowed to know
    if is_new and not tell(self, conn, deadline) then return false end
    self.run_id = id
    return true
end

return settle
