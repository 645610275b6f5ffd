--- The behaviour of file:read over any source of bytes, for any number of tasks. Each call reads as
--- a whole; a call that is interrupted by an error, a kill or a time limit leaves all that it read
--- to the next.
local core = require "mpengine.core"
local check = require "mpengine.check"
local order = require "mpengine.monkey.order"

local reader = {}

---@class mpengine.reader
---@field fill fun(wanted: integer?, deadline: number?): string?, string?, integer? more bytes; "" at the end;
--- nil, message, errno. wanted: so many bytes can be used.
---@field order mpengine.order
---@field data string what came last
---@field at integer where the next byte is in it
---@field from integer where the call under way began in it
---@field taken string[]? what that call has used up before data
---@field deadline number? of that call
---@field is_late boolean? it is past its deadline
local Reader = {}
Reader.__index = Reader

local MAX_NUMERAL = 200 -- characters, as in the io library
local ALL = math.maxinteger

--- data from its byte `from` on: without a copy when that is all.
local function rest(data, from) return from == 1 and data or data:sub(from) end

local function joined(pieces) return pieces[2] and table.concat(pieces) or pieces[1] end

--- Fills, and lets the others run if there is always something. After its time a call takes once more what
--- there is.
local function fill_more(self, wanted)
    core.look()
    if self.deadline and core.now() >= self.deadline then
        if self.is_late then return nil, "timeout" end
        self.is_late, wanted = true, ALL
    end
    return self.fill(wanted, self.deadline)
end

--- Makes sure that there is a byte; false at the end, or when the source failed.
local function more(self, wanted)
    if self.at <= #self.data then return true end
    local bytes, why, errno = fill_more(self, wanted)
    if not bytes then self.failure = { why, errno } end
    self.taken = self.taken or {}
    self.taken[#self.taken + 1] = rest(self.data, self.from)
    self.data, self.at, self.from = bytes or "", 1, 1
    return self.data ~= ""
end

--- Are there bytes that the source has given and no call has taken?
function Reader:has_data() return self.at <= #self.data or self.taken ~= nil and self.taken[1] ~= nil end

--- Undoes the reads of the current call.
local function put_back(self)
    local pieces = self.taken or {}
    pieces[#pieces + 1] = rest(self.data, self.from)
    self.data, self.at = joined(pieces), 1
end

local function peek(self)
    return more(self) and self.data:sub(self.at, self.at) or ""
end

local function read_line(self, keep)
    local pieces = {}
    while more(self) do
        local to = self.data:find("\n", self.at, true)
        pieces[#pieces + 1] = self.data:sub(self.at, to and (keep and to or to - 1))
        self.at = (to or #self.data) + 1
        if to then return joined(pieces) end
    end
    return joined(pieces)
end

local function read_all(self)
    local pieces = {}
    while more(self, ALL) do
        pieces[#pieces + 1] = rest(self.data, self.at)
        self.at = #self.data + 1
    end
    return joined(pieces) or ""
end

local function read_chars(self, n)
    if n == 0 then return more(self) and "" or nil end
    local pieces = {}
    while n > 0 and more(self, n) do
        local piece = n > #self.data - self.at and rest(self.data, self.at) or self.data:sub(self.at, self.at + n - 1)
        pieces[#pieces + 1] = piece
        self.at, n = self.at + #piece, n - #piece
    end
    return joined(pieces)
end

--- Takes the next character if it matches, into the numeral; "" once that is too long.
local function take(self, numeral, pattern)
    local c = peek(self)
    if not c:find(pattern) or numeral.too_long then return false end
    if #numeral >= MAX_NUMERAL then
        numeral.too_long = true
        return false
    end
    self.at = self.at + 1
    numeral[#numeral + 1] = c
    return true
end

local function take_digits(self, numeral, pattern)
    local n = 0
    while take(self, numeral, pattern) do n = n + 1 end
    return n
end

local function read_number(self)
    local numeral, count, digit, exponent = {}, 0, "^%d", "^[eE]"
    while peek(self):find "%s" do self.at = self.at + 1 end
    take(self, numeral, "^[-+]")
    if take(self, numeral, "^0") then
        if take(self, numeral, "^[xX]") then digit, exponent = "^%x", "^[pP]" else count = 1 end
    end
    count = count + take_digits(self, numeral, digit)
    if take(self, numeral, "^%.") then count = count + take_digits(self, numeral, digit) end
    if count > 0 and take(self, numeral, exponent) then
        take(self, numeral, "^[-+]")
        take_digits(self, numeral, "^%d")
    end
    if numeral.too_long then return nil end
    return tonumber(table.concat(numeral))
end

local formats = {
    n = read_number,
    l = function(self) return read_line(self, false) end,
    L = function(self) return read_line(self, true) end,
    a = read_all,
}

local function format_of(call, index, format)
    if type(format) == "number" then
        local n = math.tointeger(format)
        if not n then
            check.wrong(call, index, "number has no integer representation")
        end
        return function(self) return read_chars(self, n) end
    end
    local f = type(format) == "string" and formats[format:match "^%*?(.)" or ""]
    if not f then check.wrong(call, index, "invalid format") end
    return f
end

local function read_values(self, call, ...)
    local n = select("#", ...)
    if n == 0 then return read_values(self, call, "l") end
    local results = {}
    self.failure, self.taken, self.from, self.is_late = nil, nil, self.at, false
    for i = 1, n do
        local value = format_of(call, i, (select(i, ...)))(self)
        if self.failure then
            put_back(self)
            return nil, self.failure[1], self.failure[2]
        end
        results[i] = value
        if value == nil then return table.unpack(results, 1, i) end
    end
    return table.unpack(results, 1, n)
end

local function finish(self, ok, ...)
    if not ok then put_back(self) end
    self.taken, self.deadline = nil, nil
    self.order:leave()
    if not ok then error(..., 0) end
    return ...
end

--- Reads one value per format, up to the first format without data, which gives nil. When the
--- source fails: nil, message, errno.
function Reader:read(call, ...)
    self.order:enter()
    return finish(self, core.call(read_values, self, call, ...))
end

--- Reads one value until a point in time, which fill is given: after it, what fill returns then.
---@param deadline? number
---@param call string
---@param format string|integer
function Reader:read_by(deadline, call, format)
    if not self.order:enter(deadline and math.max(0, deadline - core.now())) then return nil, "timeout" end
    self.deadline = deadline
    return finish(self, core.call(read_values, self, call, format))
end

--- A reader over the pieces that fill returns.
---@param fill fun(wanted: integer?, deadline: number?): string?, string?, integer?
---@return mpengine.reader
function reader.new(fill)
    return setmetatable({ fill = fill, order = order.new(), data = "", at = 1, from = 1 }, Reader)
end

return reader
