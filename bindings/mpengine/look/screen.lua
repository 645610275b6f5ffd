--- The columns that a text takes on a terminal: names may have characters of none or two.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local screen = {}

-- First and last of each range, as in the tables of Unicode for what is wide, or stays on the one before.
local WIDE <const> = {
    0x1100, 0x115f, 0x2e80, 0x303e, 0x3041, 0xa4cf, 0xac00, 0xd7a3, 0xf900, 0xfaff, 0xfe30, 0xfe6f, 0xff00, 0xff60,
    0xffe0, 0xffe6, 0x1f300, 0x1f64f, 0x1f680, 0x1f6ff, 0x1f900, 0x1f9ff, 0x20000, 0x3fffd,
}
local NONE <const> = { 0x300, 0x36f, 0x200b, 0x200f, 0x20d0, 0x20ff, 0xfe00, 0xfe0f }

local function is_in(ranges, code)
    for i = 1, #ranges, 2 do
        if code >= ranges[i] and code <= ranges[i + 1] then return true end
    end
    return false
end

local function width_of(code)
    if code < 0x300 then return 1 end
    return is_in(NONE, code) and 0 or is_in(WIDE, code) and 2 or 1
end

--- The beginning of a text that fits into so many columns, and how many it takes.
---@return string
---@return integer columns
function screen.cut(text, columns)
    if not text:find "[\x80-\xff]" then return text:sub(1, columns), math.min(#text, columns) end
    if not utf8.len(text) then return screen.cut(core.escaped(text), columns) end
    local used = 0
    for at, code in utf8.codes(text) do
        local width = width_of(code)
        if used + width > columns then return text:sub(1, at - 1), used end
        used = used + width
    end
    return text, used
end

--- The same with spaces behind it, up to so many columns.
function screen.fit(text, columns)
    local part, used = screen.cut(text, columns)
    return part .. (" "):rep(columns - used)
end

local function width(text) return select(2, screen.cut(text, math.maxinteger)) end

--- Rows of cells as lines, whose columns are as wide as their widest cell.
---@param rows string[][]
---@param sides string l or r for each column: where its cells are
---@param gap string between two columns
---@return string[]
function screen.rows(rows, sides, gap)
    local widths, lines = {}, {}
    for _, row in ipairs(rows) do
        for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, width(cell)) end
    end
    for n, row in ipairs(rows) do
        local cells = {}
        for i, cell in ipairs(row) do
            local pad = (" "):rep(widths[i] - width(cell))
            cells[i] = sides:sub(i, i) == "r" and pad .. cell or i < #row and cell .. pad or cell
        end
        lines[n] = table.concat(cells, gap)
    end
    return lines
end

--- A text in lines of so many columns, broken at spaces where there are any; those after the first are behind lead.
---@return string[]
function screen.wrap(text, columns, lead)
    if not utf8.len(text) then text = core.escaped(text) end
    local lines, before = {}, ""
    repeat
        local part = screen.cut(text, math.max(2, columns - #before)) -- the widest character
        local space = part:find " [^ ]*$"
        local may_break = space and part:find "%S" < space
        if #part < #text and text:sub(#part + 1, #part + 1) ~= " " and may_break then part = part:sub(1, space) end
        lines[#lines + 1] = before .. part
        text, before = text:sub(#part + 1):gsub("^ +", ""), lead
    until text == ""
    return lines
end

return screen
