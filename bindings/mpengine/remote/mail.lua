--- Waiting for what the server has for a task: a lock, an item, a result. A task that waits has a token. The script
--- that serves it puts a message with the token into the stream of its client. One blocked
--- read of that stream serves all tasks of the process; there is none while no task waits.
---
--- A message may be lost with the server, so each wait asks again from time to time. Every script that is asked gives
--- the same answer for the same token.
local core = require "mpengine.core"
local client = require "mpengine.remote.client"
local errors = require "mpengine.errors"
local turn = require "mpengine.remote.turn"

require "mpengine.remote.settle"

local Client = client.Client

local COUNT <const> = 256 -- messages of one read
local KEPT <const>, KEPT_BYTES <const> = 32, 1 << 14 -- messages that have been read and are left in the stream
local PAUSE <const> = 0.1 -- seconds until a read that the server refuses is tried again

---@class mpengine.remote.Wait: mpengine.remote.Item
---@field token string
---@field mail table<string, string>? the fields of the message that has come
---@field asked_again boolean? the message may be older than the last answer
---@field deliver fun(words: string[])? gets the messages, however many: w, the token, then fields and values

--- A new wait, to be closed by the scope.
---@return mpengine.remote.Wait
function Client:wait()
    local wait = setmetatable({ token = self:number() }, { __close = function(wait)
        self.waits[wait.token] = nil
    end })
    self.waits[wait.token] = wait
    return wait
end

-- A message begins with the field w, whose value is the token.
local function hand_out(self, entries)
    for _, entry in ipairs(entries) do
        local words = entry[2]
        self.mail_id = entry[1]
        self.mail_kept = self.mail_kept + 1
        for i = 3, #words do self.mail_bytes = self.mail_bytes + #words[i] end
        local wait = self.waits[words[2]]
        if wait and wait.deliver then
            wait.deliver(words)
        elseif wait then
            local fields = {}
            for i = 1, #words, 2 do fields[words[i]] = words[i + 1] end
            wait.mail = fields
            turn.finish(wait)
        end
    end
end

--- The connection, or nil when there is none by the deadline; raises once there was none for `timeout`.
local function connect(self, deadline)
    local ok, conn = pcall(self.connected, self, "mail", math.min(deadline or math.huge, core.now() + self.timeout))
    if ok then
        self.away_since = nil
        return conn
    end
    self.away_since = self.away_since or core.now()
    local is_away = errors.is(conn) and conn.kind == "disconnected"
    if not is_away or not deadline or core.now() - self.away_since >= self.timeout then error(conn, 0) end
end

local function stream_of(self) return self.prefix .. "mail:" .. self.id end

--- The server refuses the read, some of its reasons for a short time.
local function refused(self, why)
    if not client.is_passing(why) then error(("%s: %s"):format(self.address.shown, why), 0) end
    core.sleep(PAUSE)
end

--- One read of the stream, or the rest of one that another task began.
local function read(self, wait, deadline)
    local conn = connect(self, deadline)
    if not conn then return end
    if self.mail_of ~= conn then self.mail_of, self.mail_reply = conn, nil end
    if not self.mail_reply then
        self.mail_reply = conn:ask(core.redis_command { "XREAD", "COUNT", COUNT, "BLOCK", client.BLOCK * 1000,
            "STREAMS", stream_of(self), self.mail_id or "0" }, 1)[1]
    end
    local reply = self.mail_reply
    if not conn:wait(reply, deadline) then return end
    self.mail_reply = nil
    if reply.lost or not reply.value then return end
    if reply.value.err then return refused(self, reply.value.err) end
    hand_out(self, reply.value[1][2])
    if self.mail_kept > KEPT or self.mail_bytes > KEPT_BYTES then
        self.mail_kept, self.mail_bytes = 0, 0
        conn:ask(core.redis_command { "XTRIM", stream_of(self), "MINID", self.mail_id }, 1)
    end
    if not wait.done then core.sleep(0) end -- those that got something go on before the next read is asked for
end

local function read_until(self, wait, deadline)
    while not wait.done and not (deadline and core.now() >= deadline) do read(self, wait, deadline) end
end

--- Waits for the message of a wait: true, or false at the deadline.
---@param wait mpengine.remote.Wait
---@param deadline number?
function Client:await(wait, deadline)
    return self.mail_turn:wait(wait, deadline, read_until, self)
end

--- Messages with that token go to a function, while some task waits.
---@param token string
---@param deliver fun(words: string[])
function Client:listen(token, deliver)
    self.waits[token] = { token = token, deliver = deliver }
end

---@class mpengine.remote.Source what a task waits for
---@field ask fun(token: string, join: boolean): any, number? what is given; or nil and in how many seconds to ask again
---@field given fun(mail: table): any what a message gives; nil: it was taken away meanwhile
---@field leave fun(token: string): any waits no longer; what was given at that moment, or nil
---@field give_back fun(value: any, token: string)? the task is cancelled: it does not want what it has been given

--- What the message of a wait gives, or nil. What is to be given back may have been taken away from a process that was
--- stopped for long, before it has read the message. When it has asked again meanwhile, its token is in the line
--- again, so the message is a call to ask, and no more.
local function given_by_mail(source, wait)
    if not wait.mail or wait.asked_again and source.give_back then return nil end
    return source.given(wait.mail)
end

--- The task is killed, or there is an error, when it may have been given something. When there is no server it is
--- given back as soon as there is one again.
local function withdraw(self, source, wait, err)
    self:has_left(wait.token)
    self:eventually(function()
        local given = given_by_mail(source, wait)
        if given == nil then given = source.leave(wait.token) end
        if given ~= nil and source.give_back then source.give_back(given, wait.token) end
    end, err)
end

--- Waits for a source: what it gives, or nil at the end of the timeout.
---@param source mpengine.remote.Source
---@param timeout number?
function Client:obtain(source, timeout)
    local deadline = timeout and core.now() + timeout
    if timeout ~= 0 then self:keep_alive() end
    local wait <close> = self:wait()
    local over = false
    local _ <close> = setmetatable({}, { __close = function(_, err)
        if not over then withdraw(self, source, wait, err) end
    end })
    local value, again = source.ask(wait.token, timeout ~= 0)
    if value ~= nil or timeout == 0 then
        over = true
        return value
    end
    while true do
        local soon = core.now() + math.min(again or math.huge, self.lease)
        if self:await(wait, math.min(deadline or math.huge, soon)) then
            value = given_by_mail(source, wait)
            over = value ~= nil
            if over then return value end
            wait.mail, wait.done = nil, false
        end
        if deadline and core.now() >= deadline then
            value = source.leave(wait.token)
            over = true
            if value == nil then self:has_left(wait.token) end
            return value
        end
        wait.asked_again = true
        value, again = source.ask(wait.token, true)
        if value ~= nil then
            over = true
            return value
        end
    end
end

return Client
