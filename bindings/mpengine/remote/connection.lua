--- One connection to Redis that all tasks of the process share. Commands are written as they come and
--- their replies come in the same order. No task of its own reads: of the tasks that wait for a reply one
--- reads and hands out the replies of the others.
local core = require "mpengine.core"
local route = require "mpengine.http.route"
local turn = require "mpengine.remote.turn"

local connection = {}

local SILENCE <const> = 5 -- seconds without a byte while a reply is owed, until a PING is sent
local MORE <const> = 5 -- and until the connection is given up
local WRITES <const> = 10 -- seconds without room for what is written
local LATELY <const> = 1 -- seconds
local FULL <const> = 16384 -- bytes that are read at once: there may be more

---@class mpengine.remote.Reply: mpengine.remote.Item one that is owed
---@field value any false: nil; a table with err: an error
---@field lost string? why it will not come
---@field sent boolean? some of its command was written
---@field on_lost function? is called when it is lost

---@class mpengine.remote.Connection
---@field fd integer
---@field lost string? why it is closed
local Connection = {}
Connection.__index = Connection

local PING = nil -- the bytes of the command

local function left(deadline) return deadline and math.max(0, deadline - core.now()) end

-- ---- the end ---------------------------------------------------------------------------------

--- Closes it: the replies that are owed are lost. Their commands must not arrive any more: the kernel would send those
--- of a broken line again when it is whole, after what is asked over the next connection.
function Connection:close(why)
    if self.lost then return end
    self.lost = why or "closed"
    if self.first <= self.last then self.stream:discard() end
    for i = self.first, self.last do
        local reply = self[i]
        self[i] = nil
        reply.lost = self.lost
        turn.finish(reply)
        if reply.on_lost then reply.on_lost() end
    end
    self.first, self.last = 1, 0
    self.stream:close()
    self.connections:close()
end

--- A scope that is left by an error closes it.
function Connection:__close(err)
    if err ~= nil then self:close() end
end

-- ---- writing ---------------------------------------------------------------------------------

--- Writes what is asked for, and what is asked for meanwhile. Without waiting: as far as there is room.
local function write(self, without_waiting)
    while not self.lost and (self.bytes or #self.out > 0) do
        if not self.bytes then
            self.bytes, self.written = table.concat(self.out), 0
            for i = self.unsent, self.last do self[i].sent = true end
            self.out, self.unsent = {}, self.last + 1
        end
        local n, why = self.stream:write(self.bytes, self.written + 1)
        if n then
            self.written = self.written + n
            if self.written == #self.bytes then self.bytes = nil end
        elseif why ~= "again" then
            self:close(why)
        elseif without_waiting then
            return
        elseif not core.wait_fd(self.fd, "w", WRITES, true) then
            self:close("nothing can be written for " .. WRITES .. " seconds")
        end
    end
end

--- One task writes for all. When it is cancelled it still writes what there is, for the others.
local Writing = {}
function Writing.__close(writing)
    local self = writing.of
    local ok, err = pcall(write, self)
    self.writing = false
    if not ok then self:close(tostring(err)) end
end

local function flush(self)
    if self.writing or self.lost or #self.out == 0 and not self.bytes then return end
    local _ <close> = setmetatable({ of = self }, Writing)
    self.writing = true
    if self.last > self.first then core.sleep(0) end -- tasks that run now ask as well
    write(self)
end

--- Asks for commands, in one piece: the reply to each, in a list.
---@param bytes string
---@param count integer of commands in it
---@return mpengine.remote.Reply[]
function Connection:ask(bytes, count)
    local replies = {}
    if self.first > self.last then self.heard = core.now() end
    for i = 1, count do
        local reply = { lost = self.lost, done = self.lost ~= nil }
        replies[i] = reply
        if not self.lost then
            self.last = self.last + 1
            self[self.last] = reply
        end
    end
    if not self.lost then self.out[#self.out + 1] = bytes end
    return replies
end

--- Asks for a command and writes what goes without waiting: its reply, which is to be waited for.
---@param bytes string
---@return mpengine.remote.Reply
function Connection:send(bytes)
    local reply = self:ask(bytes, 1)[1]
    if not self.writing then write(self, true) end
    return reply
end

--- Writes a command whose reply no task waits for; `lost` is called if it does not come. It does not wait: its caller
--- has got something, which a kill would take away.
function Connection:tell(bytes, lost)
    local reply = self:ask(bytes, 1)[1]
    reply.on_lost = lost
    if reply.lost then return lost() end
    if self.writing then return end
    write(self, true)
    if self.bytes then core.spawn(flush, self) end
end

-- ---- reading ---------------------------------------------------------------------------------

local function deliver(self, value)
    local reply = self[self.first]
    if not reply then return self:close("a reply to no command") end
    self[self.first] = nil
    self.first = self.first + 1
    reply.value = value
    turn.finish(reply)
end

local function parse(self, bytes)
    local reader = self.reader
    reader:feed(bytes)
    local value = reader:get()
    while value ~= nil and not self.lost do
        deliver(self, value)
        value = reader:get()
    end
end

--- Reads what is there. False: nothing.
local function read(self)
    local bytes, why = self.stream:read()
    self.more = bytes and (self.tls or #bytes >= FULL) -- what TLS has read ahead, the descriptor does not tell
    if bytes then
        self.heard = core.now()
        local ok, message = pcall(parse, self, bytes)
        if not ok then self:close("no reply of Redis: " .. tostring(message)) end
        return true
    end
    if why == "again" then return false end
    self:close(why == "closed" and "the server closed the connection" or why)
    return true
end

--- Waits for bytes, and for a short time only: the silence is looked at.
local function wait_bytes(self, deadline)
    local silent, limit = core.now() - self.heard, self.silence
    if silent >= limit + MORE then return self:close(("no answer for %g seconds"):format(limit + MORE)) end
    if silent >= limit and not self.pinged then
        self.pinged = true
        self:ask(PING, 1)
        flush(self)
    end
    if silent >= limit then limit = limit + MORE end
    local wait = math.min(limit - silent, left(deadline) or math.huge)
    core.wait_fd(self.fd, "r", wait, true)
end

--- Reads until the reply is there or lost, or the deadline.
local function read_until(self, reply, deadline)
    self.more = self.more or core.now() - self.heard >= LATELY -- it may have come while no task waited
    while not reply.done do
        if not self.more then wait_bytes(self, deadline) end
        if self.lost or not read(self) and not reply.done and deadline and core.now() >= deadline then return end
        if core.now() - self.heard < self.silence then self.pinged = false end
    end
end

--- Waits until a reply is there or lost: true, or false at the deadline.
---@param reply mpengine.remote.Reply
---@param deadline? number of core.now
---@return boolean
function Connection:wait(reply, deadline)
    flush(self)
    return self.turn:wait(reply, deadline, read_until, self)
end

--- Asks for one command and waits for its reply.
---@param words (string|number)[]
---@param deadline? number
---@return mpengine.remote.Reply
function Connection:call(words, deadline)
    local reply = self:ask(core.redis_command(words), 1)[1]
    if not self:wait(reply, deadline) then reply.lost = "timeout" end
    return reply
end

-- ---- the beginning ---------------------------------------------------------------------------

local function target(address)
    if address.path then return "http://localhost" end
    local host = address.host:find(":", 1, true) and "[" .. address.host .. "]" or address.host
    return ("%s://%s:%d"):format(address.tls and "https" or "http", host, address.port)
end

--- The addresses of the host, as a line for libcurl; nil: it has no name; or nil and why they are not found.
local function resolved(address, deadline)
    if not address.host then return nil end
    local plan = { url = target(address) }
    local found, why = route.find(plan, "", left(deadline))
    if not found then return nil, why end
    return plan.resolve[1] and plan.resolve[1]:gsub("^%+", "") or nil
end

--- What a connection begins with: name and password, database.
local function greetings(address)
    local steps = {}
    local user, password = address.user, address.password
    if password then steps[1] = { "AUTH", user or password, user and password } end
    if address.db ~= 0 then steps[#steps + 1] = { "SELECT", address.db } end
    return steps
end

local function greet(self, address, name, deadline)
    local steps = greetings(address)
    steps[#steps + 1] = { "CLIENT", "SETNAME", name }
    steps[#steps + 1] = { "PING" }
    for _, words in ipairs(steps) do
        local reply = self:call(words, deadline)
        if reply.lost then return nil, reply.lost end
        local refused = type(reply.value) == "table" and reply.value.err
        -- A user may not be allowed to name the connection.
        if refused and words[1] ~= "CLIENT" then return nil, refused, true end
    end
    return true
end

--- A new connection, or nil, what went wrong, and whether the server refuses it.
---@param address mpengine.remote.Address
---@param options { ca: string?, name: string, silence: number? } silence: seconds without an answer that are usual
---@param deadline number
---@return mpengine.remote.Connection?
---@return string? why
---@return boolean? refused
function connection.open(address, options, deadline)
    PING = PING or core.redis_command { "PING" }
    local url = target(address)
    local resolve, failure = resolved(address, deadline)
    if failure then return nil, failure end
    local connections = core.connections(1e9)
    local stream = core.connect_stream(connections, {
        url = url, path = address.path, ca = options.ca, resolve = resolve, timeout = left(deadline),
    })
    local opening <close> = setmetatable({ stream }, { __close = function(opening)
        if opening[1] then opening[1]:close() connections:close() end
    end })
    local fd, why = stream:connect()
    if not fd then return nil, why end
    local self <close> = setmetatable({ stream = stream, connections = connections, fd = fd,
        reader = core.redis_reader(), tls = address.tls, more = address.tls, out = {}, first = 1, last = 0, unsent = 1,
        heard = core.now(), turn = turn.new(), writing = false, silence = options.silence or SILENCE }, Connection)
    opening[1] = nil
    local greeted, message, refused = greet(self, address, options.name, deadline)
    if greeted then return self end
    self:close(message)
    return nil, message, refused
end

--- A thread that sends a command at intervals; it ends when the result is collected.
---@param address mpengine.remote.Address
---@param options { ca: string?, seconds: number }
---@param words (string|number)[]
function connection.beat(address, options, words)
    local greeting = {}
    for i, step in ipairs(greetings(address)) do greeting[i] = core.redis_command(step) end
    return core.beat { url = target(address), path = address.path, ca = options.ca, greeting = table.concat(greeting),
        bytes = core.redis_command(words), seconds = options.seconds, resolve = resolved(address) }
end

return connection
