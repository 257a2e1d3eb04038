/// Rows in columns.
enum TextTable {
    /// - Parameter rows: of equal length; the first is the heading.
    static func render(_ rows: [[String]]) -> String {
        let columns = rows.first?.count ?? 0
        let widths = (0..<columns).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let padded = zip(row, widths).dropLast().map { $0 + String(repeating: " ", count: $1 - $0.count + 2) }
            return padded.joined() + (row.last ?? "") + "\n"
        }.joined()
    }
}
